"""Columns of the retail tables, by the contracts' types; partition columns year, month, day (int) stand behind each."""

from __future__ import annotations

from pyspark.sql.types import StructType


def _columns(ddl: str) -> StructType:
    parsed = StructType.fromDDL(ddl)
    assert isinstance(parsed, StructType)
    return parsed


SALES = _columns(
    "transaction_id STRING, household_id BIGINT, store_id BIGINT, basket_id BIGINT, product_id STRING, quantity INT, "
    "sales_value DECIMAL(12,2), retail_disc DECIMAL(12,2), coupon_disc DECIMAL(12,2), coupon_match_disc DECIMAL(12,2), "
    "week INT, transaction_timestamp TIMESTAMP, transaction_date DATE"
)
PARTITIONS = _columns("year INT, month INT, day INT")
PROCESSED = StructType([*SALES.fields, *_columns("arrival_date DATE").fields])
DEMOGRAPHICS = _columns(
    "age STRING, income STRING, home_ownership STRING, marital_status STRING, household_size STRING, "
    "household_comp STRING, kids_count STRING"
)
CUSTOMERS = StructType([*_columns("household_id BIGINT").fields, *DEMOGRAPHICS.fields])
ENRICHED = StructType(
    [
        *PROCESSED.fields,
        *DEMOGRAPHICS.fields,
        *_columns("customer_is_known BOOLEAN, customer_snapshot_date DATE").fields,
    ]
)
KPIS = _columns(
    "customer_id STRING, date DATE, total_amount DECIMAL(18,2), transaction_count INT, avg_transaction_value DECIMAL(18,2)"
)
