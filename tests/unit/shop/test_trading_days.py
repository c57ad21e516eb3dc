from datetime import UTC, date, datetime, timedelta

import duckdb
import pytest

from include.shop import trading_days
from include.shop.exceptions import ShopError
from include.shop.source import parquet_file
from include.shop.trading_days import TradingDays

MONDAY = date(2026, 6, 8)
WEEK = [MONDAY + timedelta(days=number) for number in range(7)]


@pytest.fixture(scope="module")
def sales_by_source_day() -> dict[date, int]:
    relation = duckdb.read_parquet(str(parquet_file("transactions")))
    return dict(relation.aggregate("transaction_timestamp::DATE AS day, count(*) AS sales", "day").fetchall())


@pytest.mark.parametrize("today", WEEK, ids=lambda day: f"{day:%A}")
def test_today_and_the_two_days_before_sell_on_every_weekday(today: date, sales_by_source_day: dict[date, int]) -> None:
    days = TradingDays(today)
    for back in range(3):
        day = today - timedelta(days=back)
        assert sales_by_source_day[days.source_day(day)] > 3000
        assert days.source_day(day).weekday() == day.weekday()
    assert days.shift.days % 7 == 0
    assert date(2017, 12, 18) <= days.source_day(today) <= date(2017, 12, 24)


def test_the_week_shown_is_the_last_one_that_sells_on_all_seven_days(sales_by_source_day: dict[date, int]) -> None:
    whole = [
        monday
        for monday in sales_by_source_day
        if monday.weekday() == 0 and all(monday + timedelta(days=number) in sales_by_source_day for number in range(7))
    ]
    assert max(whole) == trading_days.LAST_WHOLE_WEEK_MONDAY


@pytest.mark.parametrize("today", WEEK, ids=lambda day: f"{day:%A}")
def test_every_complete_day_sells_and_none_is_today(today: date, sales_by_source_day: dict[date, int]) -> None:
    days = TradingDays(today)
    complete = days.complete_days()
    assert complete[0] == days.first_day and complete[-1] == days.yesterday == today - timedelta(days=1)
    assert len(complete) == 351 + today.weekday()
    assert all(days.source_day(day) in sales_by_source_day for day in complete)


def test_the_shift_holds_for_a_week_and_grows_on_monday() -> None:
    assert {TradingDays(day).shift for day in WEEK} == {MONDAY - date(2017, 12, 18)}
    assert TradingDays(MONDAY + timedelta(days=7)).shift - TradingDays(MONDAY).shift == timedelta(days=7)


def test_the_shift_is_a_multiple_of_seven_when_today_lies_before_the_data() -> None:
    assert TradingDays(date(2016, 2, 29)).shift.days % 7 == 0
    assert TradingDays(date(2017, 12, 20)).shift == timedelta()


def test_complete_days_are_the_last_ones_when_a_number_is_given(days: TradingDays) -> None:
    assert days.complete_days(3) == [date(2026, 6, 8), date(2026, 6, 9), date(2026, 6, 10)]
    assert days.complete_days(1000) == days.complete_days()
    with pytest.raises(ShopError, match="at least 1"):
        days.complete_days(0)


def test_a_day_outside_the_history_is_refused(days: TradingDays) -> None:
    assert days.source_day(days.first_day) == date(2017, 1, 1)
    with pytest.raises(ShopError, match="runs from"):
        days.source_day(days.first_day - timedelta(days=1))
    with pytest.raises(ShopError, match="runs from"):
        days.source_day(days.today + timedelta(days=30))


def test_today_comes_from_the_setting_or_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = datetime.now(UTC).date()
    assert before <= trading_days.current().today <= datetime.now(UTC).date()
    monkeypatch.setenv("SHOP_TODAY", "2026-02-28")
    assert trading_days.current().today == date(2026, 2, 28)
    monkeypatch.setenv("SHOP_TODAY", "28.2.2026")
    with pytest.raises(ShopError, match="SHOP_TODAY"):
        trading_days.current()
