"""Sales meet the right snapshot of customers and products, and none is lost."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import DateType, StructType

from spark_jobs.enrich_transactions import CUSTOMER_DATA, PRODUCT_DATA, transform
from spark_jobs.sales_columns import CUSTOMERS, ENRICHED, PARTITIONS, PROCESSED, PRODUCTS
from spark_jobs.snapshots import Snapshots, newest_snapshots
from tests.spark_jobs.sales import Sale, day


def sales_frame(spark: SparkSession, *sales: Sale) -> DataFrame:
    schema = StructType([*PROCESSED.fields, *PARTITIONS.fields])
    rows = [(*sale.columns(), sale.sold.year, sale.sold.month, sale.sold.day) for sale in sales]
    return spark.createDataFrame(rows, schema)


def customers(spark: SparkSession, of_day: dict[date, date | None], *rows: tuple[object, ...]) -> Snapshots:
    """Rows of household, age, snapshot date."""
    schema = StructType(list(CUSTOMERS.fields)).add("customer_snapshot_date", DateType())
    filled = [(household, age, *[None] * 6, at) for household, age, at in rows]
    return Snapshots(CUSTOMER_DATA, spark.createDataFrame(filled, schema), of_day, {})


def products(spark: SparkSession, of_day: dict[date, date | None], *rows: tuple[object, ...]) -> Snapshots:
    """Rows of product, department, snapshot date."""
    schema = StructType(list(PRODUCTS.fields)).add("product_snapshot_date", DateType())
    filled = [(product, department, None, None, None, at) for product, department, at in rows]
    return Snapshots(PRODUCT_DATA, spark.createDataFrame(filled, schema), of_day, {})


def test_newest_snapshot_at_or_before_the_day_is_chosen_when_there_are_several() -> None:
    snapshots = newest_snapshots([day(0), day(3), day(4), day(9)], [day(4), day(1), day(3)])

    assert snapshots == {day(0): None, day(3): day(3), day(4): day(4), day(9): day(4)}


def test_each_day_meets_its_own_snapshot_when_days_are_enriched_together(spark: SparkSession) -> None:
    sales = sales_frame(spark, Sale("a", day(1), day(1), 100), Sale("b", day(2), day(2), 100))
    households = customers(spark, {day(1): day(1), day(2): day(2)}, (1, "25-34", day(1)), (1, "35-44", day(2)))
    catalogue = products(spark, {day(1): day(0), day(2): day(2)}, ("p", "GROCERY", day(0)), ("p", "DRUG", day(2)))

    rows = transform(sales, households, catalogue)

    assert {
        row.transaction_id: (row.age, row.customer_snapshot_date, row.department, row.product_snapshot_date)
        for row in rows.collect()
    } == {"a": ("25-34", day(1), "GROCERY", day(0)), "b": ("35-44", day(2), "DRUG", day(2))}
    assert rows.columns == [*ENRICHED.names, *PARTITIONS.names]


def test_sale_is_kept_and_flagged_when_household_and_product_are_unknown(spark: SparkSession) -> None:
    sales = sales_frame(spark, Sale("a", day(1), day(1), 123, household=7), Sale("b", day(0), day(0), 5))
    of_day = {day(1): day(1), day(0): None}
    households, catalogue = customers(spark, of_day, (1, "25-34", day(1))), products(spark, of_day, ("q", "x", day(1)))

    rows = {row.transaction_id: row for row in transform(sales, households, catalogue).collect()}

    assert [rows[key].customer_is_known for key in "ab"] == [False, False]
    assert [rows[key].product_is_known for key in "ab"] == [False, False]
    assert [rows[key].department for key in "ab"] == [None, None]
    assert rows["a"].customer_snapshot_date == day(1)
    assert rows["b"].customer_snapshot_date is None
    assert [str(rows[key].sales_value) for key in "ab"] == ["1.23", "0.05"]


def test_household_is_known_when_its_demographics_are_all_empty(spark: SparkSession) -> None:
    sales = sales_frame(spark, Sale("a", day(1), day(1), 100))

    of_day: dict[date, date | None] = {day(1): day(1)}

    row = transform(sales, customers(spark, of_day, (1, None, day(1))), products(spark, of_day)).collect()[0]

    assert row.customer_is_known
    assert row.age is None
