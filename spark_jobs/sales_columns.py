"""Columns of the retail tables, by the contracts' types; partition columns year, month, day (int) stand behind each."""

from __future__ import annotations

from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    IntegerType,
    LongType,
    StringType,
    StructType,
    TimestampType,
)

_MONEY = DecimalType(12, 2)
_TOTAL = DecimalType(18, 2)


def _columns(base: StructType | None = None, /, **types: DataType) -> StructType:
    columns = StructType(list(base.fields) if base else [])
    for name, data_type in types.items():
        columns.add(name, data_type)
    return columns


SALES = _columns(
    transaction_id=StringType(),
    household_id=LongType(),
    store_id=LongType(),
    basket_id=LongType(),
    product_id=StringType(),
    quantity=IntegerType(),
    sales_value=_MONEY,
    retail_disc=_MONEY,
    coupon_disc=_MONEY,
    coupon_match_disc=_MONEY,
    week=IntegerType(),
    transaction_timestamp=TimestampType(),
    transaction_date=DateType(),
)
PARTITIONS = _columns(year=IntegerType(), month=IntegerType(), day=IntegerType())
PROCESSED = _columns(SALES, arrival_date=DateType())
_DEMOGRAPHICS = {
    name: StringType()
    for name in ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
}
CUSTOMERS = _columns(_columns(household_id=LongType()), **_DEMOGRAPHICS)
_CATALOGUE = {name: StringType() for name in ("department", "brand", "product_category", "product_type")}
PRODUCTS = _columns(product_id=StringType(), **_CATALOGUE)
ENRICHED = _columns(
    _columns(_columns(PROCESSED, **_DEMOGRAPHICS), customer_is_known=BooleanType(), customer_snapshot_date=DateType()),
    **_CATALOGUE,
    product_is_known=BooleanType(),
    product_snapshot_date=DateType(),
)
_SUMS = {"total_amount": _TOTAL, "transaction_count": IntegerType(), "avg_transaction_value": _TOTAL}
CUSTOMER_KPIS = _columns(customer_id=StringType(), date=DateType(), **_SUMS)
DEPARTMENT_KPIS = _columns(department=StringType(), date=DateType(), **_SUMS)
