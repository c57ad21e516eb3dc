"""KPIs to the cent, against Python's Decimal."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from spark_jobs import compute_customer_kpis, compute_department_kpis
from spark_jobs.sales_columns import CUSTOMER_KPIS, PARTITIONS, PROCESSED
from tests.spark_jobs.sales import Sale, day

CENT = Decimal("0.01")


def kpis(spark: SparkSession, sales: list[Sale]) -> DataFrame:
    return compute_customer_kpis.KPIS.transform(spark.createDataFrame([sale.columns() for sale in sales], PROCESSED))


def test_kpis_are_exact_when_amounts_are_random(spark: SparkSession) -> None:
    chance = random.Random(7)
    sales = [
        Sale(
            str(n),
            day(0),
            day(chance.randrange(3)),
            chance.choice([1, 5, 10**11 - 1, chance.randrange(1, 5000)]),
            chance.randrange(9),
        )
        for n in range(600)
    ]
    groups: dict[tuple[str, object], list[Decimal]] = defaultdict(list)
    for sale in sales:
        groups[str(sale.household), sale.sold].append(sale.amount)

    found = {
        (row.customer_id, row.date): (row.total_amount, row.transaction_count, row.avg_transaction_value)
        for row in kpis(spark, sales).collect()
    }

    assert found == {
        key: (sum(amounts), len(amounts), (sum(amounts) / len(amounts)).quantize(CENT, ROUND_HALF_UP))
        for key, amounts in groups.items()
    }


@pytest.mark.parametrize(
    ("cents", "average"),
    [([1, 2], "0.02"), ([1, 1, 2], "0.01"), ([1] * 199 + [100], "0.01"), ([1] * 199 + [101], "0.02")],
)
def test_average_is_rounded_half_up_when_it_lies_at_a_half_cent(
    spark: SparkSession, cents: list[int], average: str
) -> None:
    sales = [Sale(str(n), day(0), day(0), amount) for n, amount in enumerate(cents)]

    assert str(kpis(spark, sales).collect()[0].avg_transaction_value) == average


def test_columns_have_the_contract_types_when_there_is_nothing(spark: SparkSession) -> None:
    rows = kpis(spark, [])

    expected = [(field.name, field.dataType.simpleString()) for field in (*CUSTOMER_KPIS.fields, *PARTITIONS.fields)]
    assert rows.dtypes == expected
    assert rows.count() == 0


def test_overflow_is_an_error_when_a_total_does_not_fit(spark: SparkSession) -> None:
    sales = [Sale("a", day(0), day(0), 10**12 - 1)]
    million_times = spark.createDataFrame([sale.columns() for sale in sales], PROCESSED).crossJoin(
        spark.range(1_000_100)
    )

    with pytest.raises((PySparkException, Py4JJavaError), match="NUMERIC_VALUE_OUT_OF_RANGE"):
        compute_customer_kpis.KPIS.transform(million_times).collect()


def test_money_of_unknown_products_counts_for_a_department_of_its_own_when_departments_are_summed(
    spark: SparkSession,
) -> None:
    rows = [("GROCERY", day(0), Decimal("1.10")), ("GROCERY", day(0), Decimal("2.05")), (None, day(0), Decimal("0.01"))]
    sales = spark.createDataFrame(rows, "department string, transaction_date date, sales_value decimal(12,2)")

    found = compute_department_kpis.KPIS.transform(sales).collect()

    assert {(row.department, row.total_amount, row.transaction_count, row.avg_transaction_value) for row in found} == {
        ("GROCERY", Decimal("3.15"), 2, Decimal("1.58")),
        ("UNKNOWN", Decimal("0.01"), 1, Decimal("0.01")),
    }
