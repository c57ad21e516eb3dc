"""The master data in a real PostgreSQL: the stack's, in a schema of the test's own that is dropped at the end."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import duckdb
import psycopg
import pytest
from psycopg import sql

from include.shop import environment
from include.shop.customers import DEMOGRAPHICS, CustomerSeed, seed_customers
from include.shop.exceptions import ShopError
from include.shop.source import parquet_file
from include.shop.trading_days import ANCHOR, TradingDays

DAYS = TradingDays(date(2026, 6, 11))


@pytest.fixture(scope="module")
def conninfo() -> str:
    return environment.database_conninfo()


@pytest.fixture
def connection(conninfo: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
        yield connection


@pytest.fixture
def schema(connection: psycopg.Connection) -> Iterator[str]:
    name = f"shop_test_{uuid4().hex[:12]}"
    yield name
    connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(name)))


def rows_of(connection: psycopg.Connection, schema: str) -> dict[int, tuple[Any, ...]]:
    query = sql.SQL("SELECT household_id, {}, updated_at FROM {}").format(
        sql.SQL(", ").join(map(sql.Identifier, DEMOGRAPHICS)), sql.Identifier(schema, "customers")
    )
    return {row[0]: row[1:] for row in connection.execute(query)}


def update(connection: psycopg.Connection, schema: str, assignment: str, household: int) -> None:
    statement = sql.SQL("UPDATE {} SET " + assignment + " WHERE household_id = %s")
    connection.execute(statement.format(sql.Identifier(schema, "customers")), [household])


def test_every_household_is_there_with_its_demographics(
    conninfo: str, connection: psycopg.Connection, schema: str
) -> None:
    assert seed_customers(conninfo, DAYS, schema=schema) == CustomerSeed(2469, inserted=2469, updated=0)
    rows = rows_of(connection, schema)
    buyers = duckdb.read_parquet(str(parquet_file("transactions"))).project("household_id").distinct().fetchall()
    known = duckdb.read_parquet(str(parquet_file("demographics"))).project(f"household_id, {', '.join(DEMOGRAPHICS)}")
    expected = dict.fromkeys((household for (household,) in buyers), (None,) * 7)
    expected |= {row[0]: row[1:] for row in known.fetchall()}
    assert {household: row[:-1] for household, row in rows.items()} == expected
    assert sum(row[0] is not None for row in rows.values()) == 801


def test_updated_at_is_spread_over_a_year_before_every_exported_sale(
    conninfo: str, connection: psycopg.Connection, schema: str
) -> None:
    seed_customers(conninfo, DAYS, schema=schema)
    instants = [row[-1] for row in rows_of(connection, schema).values()]
    opening, end = datetime(2024, 1, 8, tzinfo=UTC), datetime(2025, 1, 6, tzinfo=UTC)
    assert opening <= min(instants) < opening + timedelta(days=3)
    assert max(instants) < end < max(instants) + timedelta(days=3)
    assert end.date() <= TradingDays(ANCHOR).first_day
    per_month = [sum(instant.month == month for instant in instants) for month in range(1, 13)]
    assert min(per_month) > 100


@pytest.mark.parametrize("later", [0, 1, 7, 364], ids=["same_day", "next_day", "next_week", "next_cycle"])
def test_updated_at_is_the_same_in_another_database(
    later: int, conninfo: str, connection: psycopg.Connection, schema: str
) -> None:
    seed_customers(conninfo, DAYS, schema=schema)
    before = rows_of(connection, schema)
    connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
    seed_customers(conninfo, TradingDays(DAYS.today + timedelta(days=later)), schema=schema)
    assert rows_of(connection, schema) == before


@pytest.mark.parametrize("later", [0, 1, 7], ids=["same_day", "next_day", "next_week"])
def test_nothing_changes_when_seeded_again(
    later: int, conninfo: str, connection: psycopg.Connection, schema: str
) -> None:
    seed_customers(conninfo, DAYS, schema=schema)
    before = rows_of(connection, schema)
    again = TradingDays(DAYS.today + timedelta(days=later))
    assert seed_customers(conninfo, again, schema=schema) == CustomerSeed(2469, inserted=0, updated=0)
    assert rows_of(connection, schema) == before


def test_an_update_sets_updated_at_to_its_transaction(
    conninfo: str, connection: psycopg.Connection, schema: str
) -> None:
    seed_customers(conninfo, DAYS, schema=schema)
    before = rows_of(connection, schema)
    with connection.transaction():
        update(connection, schema, "income = '250K+', updated_at = 'epoch'", 1)
        ((now,),) = connection.execute("SELECT now()").fetchall()
    after = rows_of(connection, schema)
    assert after.pop(1)[-1] == now
    del before[1]
    assert after == before


def test_only_what_differs_is_mended_and_others_rows_stay(
    conninfo: str, connection: psycopg.Connection, schema: str
) -> None:
    seed_customers(conninfo, DAYS, schema=schema)
    before = rows_of(connection, schema)
    table = sql.Identifier(schema, "customers")
    update(connection, schema, "age = NULL", 1)
    connection.execute(sql.SQL("DELETE FROM {} WHERE household_id = 2").format(table))
    connection.execute(sql.SQL("INSERT INTO {} (household_id, updated_at) VALUES (9999, now())").format(table))
    assert seed_customers(conninfo, DAYS, schema=schema) == CustomerSeed(2469, inserted=1, updated=1)
    after = rows_of(connection, schema)
    assert after.pop(9999)[0] is None
    mended = after.pop(1)
    assert mended[:-1] == before[1][:-1]
    assert mended[-1] > before[1][-1]
    del before[1]
    assert after == before


def test_one_set_of_rows_when_seeded_four_times_at_once(
    conninfo: str, connection: psycopg.Connection, schema: str
) -> None:
    with ThreadPoolExecutor(4) as pool:
        seeds = list(pool.map(lambda _: seed_customers(conninfo, DAYS, schema=schema), range(4)))
    assert sorted(seed.inserted for seed in seeds) == [0, 0, 0, 2469]
    assert len(rows_of(connection, schema)) == 2469


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(ShopError, match="make status") as caught:
        seed_customers("host=127.0.0.1 port=1 user=retail dbname=retail password=hush", DAYS)
    assert "hush" not in str(caught.value)
