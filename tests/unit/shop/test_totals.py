import csv
import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from include.shop import rows as shop_rows
from include.shop.exceptions import ShopError
from include.shop.landing import export_days, file_name
from include.shop.source import parquet_file
from include.shop.totals import DayTotals, GroupTotals, customer_totals, day_totals, department_totals, sold_until
from include.shop.trading_days import TradingDays, cycle_begin


def test_totals_equal_those_of_the_files(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 3)
    for day in days.complete_days(3):
        with (tmp_path / file_name(day)).open(newline="") as file:
            sales = [(int(row["household_id"]), Decimal(row["sales_value"])) for row in csv.DictReader(file)]
        positive = [(household, value) for household, value in sales if value > 0]
        assert 0 < len(positive) < len(sales)
        assert day_totals(day, days=days) == DayTotals(
            day=day,
            source_day=day - (date(2026, 6, 10) - date(2017, 6, 7)),
            rows=len(sales),
            sales_value=sum((value for _, value in sales), Decimal()),
            positive_rows=len(positive),
            positive_sales_value=sum((value for _, value in positive), Decimal()),
        )
        by_household: dict[int, list[Decimal]] = {}
        for household, value in positive:
            by_household.setdefault(household, []).append(value)
        assert customer_totals(day, days=days) == {
            household: GroupTotals(sum(values, Decimal()), len(values)) for household, values in by_household.items()
        }


def test_customers_add_up_to_their_day(days: TradingDays) -> None:
    totals = day_totals(days.yesterday, days=days)
    customers = customer_totals(days.yesterday, days=days).values()
    assert sum(customer.count for customer in customers) == totals.positive_rows
    assert sum(customer.total for customer in customers) == totals.positive_sales_value


def test_what_was_sold_by_a_moment_is_what_the_api_shows_then(days: TradingDays) -> None:
    midnight = datetime.combine(days.today, time.min)
    assert sold_until(midnight) == {}
    for hour in (1, 14):
        moment = midnight + timedelta(hours=hour)
        shown = [json.loads(body) for body in shop_rows.sales(days, midnight, moment).bodies]
        by_household: dict[int, list[Decimal]] = {}
        for sale in shown:
            if sale["sales_value"]:
                by_household.setdefault(sale["household_id"], []).append(Decimal(str(sale["sales_value"])))
        assert len(shown) > 0
        assert sold_until(moment) == {
            household: GroupTotals(sum(values, Decimal()), len(values)) for household, values in by_household.items()
        }
    assert sold_until(datetime.combine(days.yesterday, time.max)) == customer_totals(days.yesterday, days=days)


def test_departments_add_up_to_their_day(days: TradingDays) -> None:
    totals = day_totals(days.yesterday, days=days)
    departments = department_totals(days.yesterday, days=days)
    assert sum(department.count for department in departments.values()) == totals.positive_rows
    assert sum(department.total for department in departments.values()) == totals.positive_sales_value
    assert "GROCERY" in departments


def test_a_day_comes_to_what_pandas_makes_of_the_package() -> None:
    """Sum of ``(sales_value * 100).round()`` over 2017-12-24, computed once with pandas 3.1."""
    christmas_eve = date(2026, 12, 27)
    days = TradingDays(christmas_eve)
    totals = day_totals(christmas_eve, days=days)
    assert totals.source_day == date(2017, 12, 24)
    assert (totals.rows, totals.positive_rows) == (5789, 5749)
    assert totals.sales_value == totals.positive_sales_value == Decimal("20142.69")
    assert len(customer_totals(christmas_eve, days=days)) == 505


def test_a_sale_of_less_than_a_cent_counts_as_nothing() -> None:
    """2017-12-03 holds one of the source's 20 values like 1.8e-15: above zero as a double, 0.00 as money."""
    day = date(2026, 12, 6)
    relation = duckdb.read_parquet(str(parquet_file("transactions")))
    ((as_doubles,),) = (
        relation.filter("transaction_timestamp::DATE = DATE '2017-12-03' AND sales_value > 0")
        .aggregate("count(*)")
        .fetchall()
    )
    assert day_totals(day, days=TradingDays(day)).positive_rows == as_doubles - 1


def test_a_day_without_sales_comes_to_nothing() -> None:
    closed = date(2026, 12, 28)
    days = TradingDays(date(2026, 12, 29))
    totals = day_totals(closed, days=days)
    assert (totals.rows, totals.sales_value, totals.positive_rows) == (0, Decimal("0.00"), 0)
    assert customer_totals(closed, days=days) == {}


def test_totals_are_the_same_whatever_today(days: TradingDays) -> None:
    for later in (1, 7, 364, 5000):
        seen_later = TradingDays(days.today + timedelta(days=later))
        assert day_totals(days.yesterday, days=seen_later) == day_totals(days.yesterday, days=days)
        assert customer_totals(days.yesterday, days=seen_later) == customer_totals(days.yesterday, days=days)


def test_each_cycle_begins_and_ends_with_the_sales_of_the_same_days() -> None:
    """2017-01-02 and 2017-12-31, counted in the source; 2017-01-01 and 2018-01-01 are not sold."""
    days = TradingDays(date(2030, 1, 1))
    for cycle in (-1, 0, 1):
        first = cycle_begin(cycle)
        around = [first - timedelta(days=1), first]
        assert [day_totals(day, days=days).rows for day in around] == [5546, 4077]


def test_a_day_to_come_is_refused(days: TradingDays) -> None:
    tomorrow = days.today + timedelta(days=1)
    with pytest.raises(ShopError, match="yet"):
        day_totals(tomorrow, days=days)
    with pytest.raises(ShopError, match="yet"):
        customer_totals(tomorrow, days=days)
