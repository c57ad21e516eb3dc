"""The cleaning against the same rule in plain Python, over named cases and over random histories."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
from pyspark.sql import DataFrame, SparkSession

from spark_jobs.clean_transactions import ArrivalBounds, touched_event_dates, transform
from spark_jobs.days import DayRange
from spark_jobs.sales_columns import PROCESSED
from tests.spark_jobs.sales import Sale, current, day

BOUNDS = ArrivalBounds(early_days=1, late_days=10)


def frame(spark: SparkSession, sales: Iterable[Sale]) -> DataFrame:
    return spark.createDataFrame([sale.columns() for sale in sales], PROCESSED)


def kept(rows: DataFrame) -> list[Sale]:
    return sorted(
        Sale(row.transaction_id, row.arrival_date, row.transaction_date, int(row.sales_value * 100), row.household_id)
        for row in rows.where("NOT is_superseded").collect()
    )


@pytest.mark.parametrize(
    "sales",
    [
        pytest.param([Sale("a", day(2), day(0), 100), Sale("b", day(0), day(0), 200)], id="late row"),
        pytest.param([Sale("a", day(0), day(0), 100), Sale("a", day(2), day(0), 150)], id="corrected row"),
        pytest.param([Sale("a", day(0), day(0), 100), Sale("a", day(2), day(1), 100)], id="correction moves the date"),
        pytest.param([Sale("a", day(0), day(0), 100), Sale("a", day(0), day(0), 101)], id="key twice in a window"),
        pytest.param(
            [Sale("a", day(0), day(1), 100), Sale("b", day(0), day(2), 100)], id="early by one day and by two"
        ),
        pytest.param([Sale("a", day(10), day(0), 100), Sale("b", day(11), day(0), 100)], id="late by ten and eleven"),
        pytest.param([Sale("a", day(0), day(0), 100), Sale("a", day(11), day(5), 100)], id="corrected after the close"),
    ],
)
def test_newest_version_counts_when_rows_come_late_twice_or_corrected(spark: SparkSession, sales: list[Sale]) -> None:
    dates = {sale.sold for sale in sales}
    expected = sorted(current(sales, early=1, late=10))

    assert kept(transform(frame(spark, sales), dates, BOUNDS)) == expected
    assert kept(transform(frame(spark, sales[::-1]), dates, BOUNDS)) == expected


def test_identical_rows_are_kept_once_when_a_window_repeats_them(spark: SparkSession) -> None:
    sale = Sale("a", day(0), day(0), 100)
    rows = transform(frame(spark, [sale, sale, sale]), {day(0)}, BOUNDS)

    assert kept(rows) == [sale]
    assert rows.count() == 3


def test_partition_columns_are_the_event_date_when_a_row_arrives_in_another_month(spark: SparkSession) -> None:
    row = transform(frame(spark, [Sale("a", day(3), day(0), 100)]), {day(0)}, BOUNDS).collect()[0]

    assert (row.year, row.month, row.day) == (2026, 1, 30)
    assert str(row.arrival_date) == "2026-02-02"


def test_other_event_dates_are_left_out_when_they_only_supersede(spark: SparkSession) -> None:
    sales = [Sale("a", day(0), day(0), 100), Sale("a", day(1), day(1), 100)]

    assert kept(transform(frame(spark, sales), {day(0)}, BOUNDS)) == []


@pytest.mark.parametrize("seed", range(4))
def test_lake_equals_full_computation_when_windows_change_and_run_in_any_order(spark: SparkSession, seed: int) -> None:
    """Windows are loaded, corrected and emptied at random; each change is followed by a run of only that window."""
    chance = random.Random(seed)
    raw: dict[int, list[Sale]] = {}
    lake: set[Sale] = set()
    for _ in range(7):
        number = chance.randrange(5)
        raw[number] = [
            Sale(chance.choice("abcdef"), day(number), day(number - chance.randrange(-1, 4)), chance.randrange(1, 999))
            for _ in range(chance.choice([0, 3, 6]))
        ]
        everything = [sale for sales in raw.values() for sale in sales]
        window = DayRange(day(number), day(number))
        rows = frame(spark, everything)
        processed = frame(spark, [sale for sale in lake if sale.arrived == day(number)])
        dates = touched_event_dates(frame(spark, raw[number]), rows, processed, window, BOUNDS)
        answer = kept(transform(rows, dates, BOUNDS))
        lake = {sale for sale in lake if sale.sold not in dates} | set(answer)

        assert lake == current(everything, early=1, late=10)
        assert len({sale.key for sale in lake}) == len(lake)
