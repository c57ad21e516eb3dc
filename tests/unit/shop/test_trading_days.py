from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest

from include.shop import trading_days
from include.shop.exceptions import ShopError
from include.shop.source import parquet_file
from include.shop.trading_days import Showing, TradingDays, cycle_begin, showing

MANY_DAYS = [date(2015, 1, 1) + timedelta(days=number) for number in range(9000)]


@pytest.mark.parametrize(
    ("day", "cycle", "source_day"),
    [
        (date(2026, 11, 23), 0, date(2017, 11, 20)),
        (date(2026, 1, 5), 0, date(2017, 1, 2)),
        (date(2027, 1, 3), 0, date(2017, 12, 31)),
        (date(2027, 1, 4), 1, date(2017, 1, 2)),
        (date(2026, 1, 4), -1, date(2017, 12, 31)),
        (date(2025, 12, 29), -1, date(2017, 12, 25)),
        (date(2028, 2, 29), 2, date(2017, 2, 28)),
    ],
)
def test_a_date_shows_this_day_for_ever(day: date, cycle: int, source_day: date) -> None:
    """Written out: whoever makes this fail has changed what the shop sold."""
    assert showing(day) == Showing(cycle, source_day)


def test_weekdays_are_true() -> None:
    assert all(showing(day).source_day.weekday() == day.weekday() for day in MANY_DAYS)


def test_each_cycle_shows_each_of_the_364_days_once() -> None:
    year = [date(2017, 1, 2) + timedelta(days=number) for number in range(364)]
    for cycle in (-9, -1, 0, 1, 30):
        days = [cycle_begin(cycle) + timedelta(days=number) for number in range(364)]
        assert [showing(day) for day in days] == [Showing(cycle, source_day) for source_day in year]


def test_the_season_is_true_to_a_week_for_ten_years() -> None:
    for day in MANY_DAYS:
        if 2024 <= day.year <= 2033 and (day.month, day.day) != (2, 29):
            source_day = showing(day).source_day
            same_date = [day.replace(year=year) for year in (2016, 2017, 2018)]
            assert min(abs(source_day - other) for other in same_date) <= timedelta(days=7)


def test_the_shop_is_closed_on_one_day_of_a_cycle_alone() -> None:
    relation = duckdb.read_parquet(str(parquet_file("transactions")))
    selling = {day for (day,) in relation.project("transaction_timestamp::DATE").distinct().fetchall()}
    days = [cycle_begin(0) + timedelta(days=number) for number in range(364)]
    assert [day for day in days if showing(day).source_day not in selling] == [date(2026, 12, 28)]
    assert showing(date(2026, 12, 28)).source_day == trading_days.CLOSED_SOURCE_DAY


@pytest.mark.parametrize("today", [date(2026, 11, 23), date(2024, 2, 29), date(2027, 1, 4)], ids=str)
def test_the_complete_days_are_the_364_up_to_yesterday(today: date) -> None:
    days = TradingDays(today)
    complete = days.complete_days()
    assert complete == [today - timedelta(days=back) for back in range(364, 0, -1)]
    assert (complete[0], complete[-1]) == (days.first_day, days.yesterday)


def test_complete_days_are_the_last_ones_when_a_number_is_given(days: TradingDays) -> None:
    assert days.complete_days(3) == [date(2026, 6, 8), date(2026, 6, 9), date(2026, 6, 10)]
    assert days.complete_days(1000) == days.complete_days()
    with pytest.raises(ShopError, match="at least 1"):
        days.complete_days(0)


def test_a_day_to_come_is_refused_and_an_old_one_is_not(days: TradingDays) -> None:
    assert days.source_day(days.today) == date(2017, 6, 8)
    assert days.source_day(days.first_day - timedelta(days=1)) == date(2017, 6, 7)
    with pytest.raises(ShopError, match="Choose a day"):
        days.source_day(days.today + timedelta(days=1))


def test_today_comes_from_the_setting_or_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = datetime.now(UTC).date()
    assert before <= trading_days.current().today <= datetime.now(UTC).date()
    monkeypatch.setenv("SHOP_TODAY", "2026-02-28")
    assert trading_days.current().today == date(2026, 2, 28)
    monkeypatch.setenv("SHOP_TODAY", "28.2.2026")
    with pytest.raises(ShopError, match="SHOP_TODAY"):
        trading_days.current()
