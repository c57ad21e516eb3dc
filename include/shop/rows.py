"""What the shop's API serves: rows as JSON text made once, in an order that a cursor survives.

A page is a slice of finished texts, so that serving one costs a join and nothing is rendered twice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from include.shop import source
from include.shop.exceptions import ShopError
from include.shop.trading_days import TradingDays

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DAYS_KEPT = 8
"""Days of sales that stay in memory, about 1.5 MB each."""
LONGEST_SPAN_DAYS = 31


@dataclass(slots=True)
class Rows:
    """Rows in the API's order.

    :param bodies: each row as a JSON object.
    :param ranks: rising with the rows; a rank belongs to its row for ever, whatever is inserted or deleted around it.
    """

    bodies: list[bytes]
    ranks: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ranks = self.ranks or [float(number) for number in range(len(self.bodies))]

    def __len__(self) -> int:
        return len(self.bodies)

    def index_after(self, rank: float) -> int:
        """Where the rows behind a rank begin: what a cursor points to."""
        return bisect_right(self.ranks, rank)

    def insert(self, index: int, bodies: Sequence[bytes]) -> None:
        """Put new rows in front of a row, or at the end."""
        index = min(index, len(self))
        before = self.ranks[index - 1] if index else -1.0
        after = self.ranks[index] if index < len(self) else before + 2.0
        # evenly spread: halving the gap for each would leave the last ones no rank of their own
        step = (after - before) / (len(bodies) + 1)
        self.ranks[index:index] = [before + step * number for number in range(1, len(bodies) + 1)]
        self.bodies[index:index] = bodies

    def delete(self, index: int, count: int) -> None:
        """Remove rows; ones that are not there are no error."""
        del self.ranks[index : index + count], self.bodies[index : index + count]


def products() -> Rows:
    """All products by their number. Numbers that name things are JSON strings, as in the nightly file."""
    query = f"""
        SELECT to_json({{product_id: CAST(product_id AS VARCHAR), manufacturer_id: CAST(manufacturer_id AS VARCHAR),
                        department: department, brand: brand, product_category: product_category,
                        product_type: product_type, package_size: package_size}})
        FROM read_parquet({source.quoted(source.parquet_file("products"))}) AS products ORDER BY products.product_id
    """  # noqa: S608 - a path of our own
    import duckdb

    with duckdb.connect(config=_SMALL) as connection:
        return Rows(_texts(connection, query))


def sales(days: TradingDays, since: datetime, until: datetime) -> Rows:
    """The sales of ``[since, until)`` by time: those of the nightly files, under the same ids.

    :param since, until: naive, in UTC.
    :raises ShopError: the span is longer than ``LONGEST_SPAN_DAYS``.
    """
    if until - since > timedelta(days=LONGEST_SPAN_DAYS):
        raise ShopError(f"The span is longer than {LONGEST_SPAN_DAYS} days: ask for a shorter one.")
    bodies: list[bytes] = []
    day = since.date()
    while day <= days.today and datetime(day.year, day.month, day.day) < until:  # noqa: DTZ001 - naive UTC
        times, texts = _day(day)
        bodies += texts[_first_at(times, since) : _first_at(times, until)]
        day += timedelta(days=1)
    return Rows(bodies)


def _first_at(times: Sequence[str], instant: datetime) -> int:
    """Where the sales at or after an instant begin."""
    return bisect_right(times, (instant - timedelta(microseconds=1)).isoformat(sep=" ", timespec="microseconds"))


@lru_cache(maxsize=DAYS_KEPT)
def _day(day: date) -> tuple[list[str], list[bytes]]:
    """Times (to the microsecond, as text) and JSON of a day's sales."""
    fields = ", ".join(f"{name}: {_FORMS.get(name, name)}" for name in source.SALES_COLUMNS)
    with source.connect_to_sales([day]) as connection:
        rows = connection.execute(
            f"SELECT strftime(transaction_timestamp, '%Y-%m-%d %H:%M:%S.%f'), encode(to_json({{{fields}}})) "  # noqa: S608
            "FROM sales ORDER BY position"
        ).fetchall()
    return [time for time, _ in rows], [body for _, body in rows]


_FORMS = {
    "product_id": "CAST(product_id AS VARCHAR)",
    "transaction_timestamp": "strftime(transaction_timestamp, '%Y-%m-%d %H:%M:%S')",
}
"""How a column stands in JSON, where it is not as it is in the source."""
_SMALL: dict[str, str | bool | int | float | list[str]] = {"threads": "1", "memory_limit": "200MB"}


def _texts(connection: DuckDBPyConnection, query: str) -> list[bytes]:
    return [text.encode() for (text,) in connection.execute(query).fetchall()]
