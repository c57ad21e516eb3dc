"""Sales meet the right snapshot of the customers, and none is lost."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DateType, StructType

from spark_jobs.enrich_transactions import newest_snapshots, transform
from spark_jobs.sales_columns import CUSTOMERS, ENRICHED, PARTITIONS, PROCESSED
from tests.spark_jobs.sales import Sale, day


def sales_frame(spark: SparkSession, *sales: Sale) -> DataFrame:
    schema = StructType([*PROCESSED.fields, *PARTITIONS.fields])
    rows = [(*sale.columns(), sale.sold.year, sale.sold.month, sale.sold.day) for sale in sales]
    return spark.createDataFrame(rows, schema)


def customers_frame(spark: SparkSession, *rows: tuple[object, ...]) -> DataFrame:
    """Rows of household, age, snapshot date."""
    schema = StructType(list(CUSTOMERS.fields)).add("customer_snapshot_date", DateType())
    return spark.createDataFrame([(household, age, *[None] * 6, at) for household, age, at in rows], schema)


def test_newest_snapshot_at_or_before_the_day_is_chosen_when_there_are_several() -> None:
    snapshots = newest_snapshots([day(0), day(3), day(4), day(9)], [day(4), day(1), day(3)])

    assert snapshots == {day(0): None, day(3): day(3), day(4): day(4), day(9): day(4)}


def test_each_day_meets_its_own_snapshot_when_days_are_enriched_together(spark: SparkSession) -> None:
    sales = sales_frame(spark, Sale("a", day(1), day(1), 100), Sale("b", day(2), day(2), 100))
    customers = customers_frame(spark, (1, "25-34", day(1)), (1, "35-44", day(2)))

    rows = transform(sales, customers, {day(1): day(1), day(2): day(2)})

    assert {row.transaction_id: (row.age, row.customer_snapshot_date) for row in rows.collect()} == {
        "a": ("25-34", day(1)),
        "b": ("35-44", day(2)),
    }
    assert rows.columns == [*ENRICHED.names, *PARTITIONS.names]


def test_sale_is_kept_and_flagged_when_the_household_is_unknown(spark: SparkSession) -> None:
    sales = sales_frame(spark, Sale("a", day(1), day(1), 123, household=7), Sale("b", day(0), day(0), 5))
    customers = customers_frame(spark, (1, "25-34", day(1)))

    rows = {row.transaction_id: row for row in transform(sales, customers, {day(1): day(1), day(0): None}).collect()}

    assert [rows[key].customer_is_known for key in "ab"] == [False, False]
    assert rows["a"].customer_snapshot_date == day(1)
    assert rows["b"].customer_snapshot_date is None
    assert [str(rows[key].sales_value) for key in "ab"] == ["1.23", "0.05"]


def test_household_is_known_when_its_demographics_are_all_empty(spark: SparkSession) -> None:
    sales = sales_frame(spark, Sale("a", day(1), day(1), 100))

    row = transform(sales, customers_frame(spark, (1, None, day(1))), {day(1): day(1)}).collect()[0]

    assert row.customer_is_known
    assert row.age is None
