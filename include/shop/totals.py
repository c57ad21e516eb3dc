"""What a day must come to: the independent truth with which the pipeline's results are compared.

Computed by DuckDB straight from the source's file with a query of its own: it shares with the export only the day
of the data that a date shows and the rounding to the nearest cent, which comes **before** the test
``sales_value > 0`` (20 sales are 1e-15 dollars, thus 0.00).

A day's answer is the same for ever, and there is one for every day up to today, however old. Today, which is not over
yet, is answered as if it were; a day on which the shop was closed comes to zeros.
"""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from include.shop import trading_days
from include.shop.source import parquet_file, quoted
from include.shop.trading_days import TradingDays


@dataclass(frozen=True, slots=True)
class DayTotals:
    """A day's sales lines and their value in dollars, of all lines and of those with ``sales_value > 0``."""

    day: date
    source_day: date
    rows: int
    sales_value: Decimal
    positive_rows: int
    positive_sales_value: Decimal


@dataclass(frozen=True, slots=True)
class GroupTotals:
    """What a household spent or a department sold, in dollars, and its sales lines, both of those with ``sales_value > 0``."""

    total: Decimal
    count: int


def day_totals(day: date, *, days: TradingDays | None = None) -> DayTotals:
    """The totals of ``day``; ``days`` (default: ``trading_days.current()``) tells only whether it has come.

    :raises ShopError: the day is still to come.
    """
    source_day = (days or trading_days.current()).source_day(day)
    ((rows, cents, positive_rows, positive_cents),) = _query(
        "SELECT count(*), sum(cents), count(*) FILTER (cents > 0), sum(cents) FILTER (cents > 0) FROM sold", source_day
    )
    return DayTotals(day, source_day, rows, _dollars(cents), positive_rows, _dollars(positive_cents))


def customer_totals(day: date, *, days: TradingDays | None = None) -> dict[int, GroupTotals]:
    """The totals of ``day`` by ``household_id``; a household without a sale above 0.00 is not in it.

    :raises ShopError: the day is still to come.
    """
    source_day = (days or trading_days.current()).source_day(day)
    found = _query(
        "SELECT household_id, sum(cents), count(*) FROM sold WHERE cents > 0 GROUP BY household_id",
        source_day,
    )
    return {household: GroupTotals(_dollars(cents), count) for household, cents, count in found}


def sold_until(moment: datetime) -> dict[int, GroupTotals]:
    """What each household has bought on the day of ``moment`` before it, by the source itself: what the API shows then.

    :param moment: naive, in UTC, on a day that has come.
    """
    # the time of day is the source's own
    source_moment = datetime.combine(trading_days.showing(moment.date()).source_day, moment.time())
    found = _query(
        "SELECT household_id, sum(cents), count(*) FROM sold WHERE cents > 0 AND sold_at < $until GROUP BY household_id",
        source_moment.date(),
        until=source_moment,
    )
    return {household: GroupTotals(_dollars(cents), count) for household, cents, count in found}


def department_totals(day: date, *, days: TradingDays | None = None) -> dict[str, GroupTotals]:
    """The totals of ``day`` by the department of what was sold; a department without a sale above 0.00 is not in it.

    Sales of products that the source's catalogue does not have count for ``UNKNOWN``.

    :raises ShopError: the day is still to come.
    """
    source_day = (days or trading_days.current()).source_day(day)
    products = quoted(parquet_file("products"))
    known = f"sold LEFT JOIN read_parquet({products}) USING (product_id)"
    found = _query(
        f"SELECT coalesce(department, 'UNKNOWN'), sum(cents), count(*) FROM {known} WHERE cents > 0 GROUP BY 1",  # noqa: S608
        source_day,
    )
    return {department: GroupTotals(_dollars(cents), count) for department, cents, count in found}


def _query(query: str, source_day: date, **parameters: Any) -> list[tuple[Any, ...]]:
    """Run a query over ``sold``: household_id, product_id, cents (an integer) and time of the day's sales lines."""
    import duckdb

    sold = f"""
        WITH sold AS (
            SELECT household_id, product_id, CAST(round(sales_value * 100) AS BIGINT) AS cents, transaction_timestamp AS sold_at
            FROM read_parquet({quoted(parquet_file("transactions"))})
            WHERE CAST(transaction_timestamp AS DATE) = $day
        )
    """  # noqa: S608 - the path is the data package's
    with duckdb.connect() as connection:
        return connection.execute(sold + query, {"day": source_day, **parameters}).fetchall()


def _dollars(cents: int | None) -> Decimal:
    return Decimal(cents or 0).scaleb(-2)
