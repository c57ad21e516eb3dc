"""The shop's master data: one row per household that ever bought, in PostgreSQL.

Demographics are null where the source knows none (1,668 of 2,469 households). ``updated_at`` of a new row is an
instant of the household's own between 2024-01-08 and 2025-01-05, the calendar's cycle -2: the same whenever the table
is seeded, and earlier than each sale that is exported from the calendar's anchor on. Any later update of a row sets it
to ``now()``, by a trigger.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from hashlib import sha256

import psycopg
from psycopg import sql

from include.shop.exceptions import ShopError
from include.shop.source import parquet_file, quoted
from include.shop.trading_days import TradingDays, cycle_begin

DEMOGRAPHICS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")

Household = tuple[int | str | datetime | None, ...]
"""household_id, the seven demographics, updated_at."""


@dataclass(frozen=True, slots=True)
class CustomerSeed:
    """What one seeding did to the table."""

    households: int
    inserted: int
    updated: int


def households() -> Iterator[Household]:
    """Every household that appears in the sales, by id, with its demographics and first ``updated_at``."""
    import duckdb

    with duckdb.connect() as connection:
        found = connection.execute(f"""
            SELECT household_id, {", ".join(DEMOGRAPHICS)}
            FROM (SELECT DISTINCT household_id FROM {quoted(parquet_file("transactions"))})
            LEFT JOIN {quoted(parquet_file("demographics"))} USING (household_id)
            ORDER BY household_id
        """).fetchall()  # noqa: S608 - names and paths of our own
    for row in found:
        yield (*row, first_updated_at(row[0]))


def first_updated_at(household_id: int) -> datetime:
    """An instant, to the second, spread evenly over cycle -2 by the household's number."""
    opening, end = (datetime.combine(cycle_begin(cycle), time(), UTC) for cycle in (-2, -1))
    number = int.from_bytes(sha256(f"household {household_id}".encode()).digest()[:8])
    return opening + timedelta(seconds=number % ((end - opening) // timedelta(seconds=1)))


def seed_customers(conninfo: str, days: TradingDays, *, schema: str = "public") -> CustomerSeed:
    """Create ``<schema>.customers`` where it is missing and bring its rows up to date, in one transaction.

    Only rows whose demographics differ are touched, so a repetition leaves each ``updated_at`` alone; rows of
    other households stay.

    :param days: decides nothing here, the same rows are made on every day.
    :raises ShopError: the database cannot be reached or refuses the statements.
    """
    try:
        with psycopg.connect(conninfo, connect_timeout=10, application_name="tallyclerk-shop") as connection:
            return _seed(connection, schema)
    except psycopg.OperationalError as error:
        raise ShopError(
            f"The shop's database does not let us in: {' '.join(str(error).split())} "
            f"Remedy: see with `make status` that it runs, and that the password in .env is its own."
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise ShopError(f"The shop's database refuses: {error}. Its user must own the schema {schema}.") from error


def _seed(connection: psycopg.Connection, schema: str) -> CustomerSeed:
    # Two seedings at once would otherwise collide in the catalogue
    connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"tallyclerk shop customers {schema}"])
    _create_table(connection, schema)
    names = {
        "table": sql.Identifier(schema, "customers"),
        "columns": sql.SQL(", ").join(map(sql.Identifier, DEMOGRAPHICS)),
        "current": sql.SQL(", ").join(sql.Identifier("c", name) for name in DEMOGRAPHICS),
        "excluded": sql.SQL(", ").join(sql.Identifier("excluded", name) for name in DEMOGRAPHICS),
    }
    connection.execute(sql.SQL("CREATE TEMPORARY TABLE seeding (LIKE {table}) ON COMMIT DROP").format(**names))
    count = 0
    copy_in = sql.SQL("COPY seeding (household_id, {columns}, updated_at) FROM STDIN").format(**names)
    with connection.cursor() as cursor, cursor.copy(copy_in) as copy:
        for household in households():
            copy.write_row(household)
            count += 1
    merge = sql.SQL("""
        WITH merged AS (
            INSERT INTO {table} AS c (household_id, {columns}, updated_at)
            SELECT household_id, {columns}, updated_at FROM seeding ORDER BY household_id
            ON CONFLICT (household_id) DO UPDATE SET ({columns}) = ROW ({excluded})
            WHERE ROW ({current}) IS DISTINCT FROM ROW ({excluded})
            RETURNING household_id
        )
        SELECT count(*) FILTER (WHERE k.household_id IS NULL), count(k.household_id)
        FROM merged LEFT JOIN {table} AS k USING (household_id)  -- sees the table as it was before this statement
    """).format(**names)
    row = connection.execute(merge).fetchone()
    assert row is not None  # an aggregate always answers
    return CustomerSeed(count, inserted=row[0], updated=row[1])


def _create_table(connection: psycopg.Connection, schema: str) -> None:
    names = {
        "schema": sql.Identifier(schema),
        "table": sql.Identifier(schema, "customers"),
        "touch": sql.Identifier(schema, "touch_updated_at"),
        "demographics": sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in DEMOGRAPHICS),
    }
    found = connection.execute(
        "SELECT to_regnamespace(%(schema)s), to_regclass(%(table)s)",
        {"schema": names["schema"].as_string(connection), "table": names["table"].as_string(connection)},
    ).fetchone()
    assert found is not None
    if found[0] is None:
        connection.execute(sql.SQL("CREATE SCHEMA {schema}").format(**names))
    if found[1] is not None:
        return
    connection.execute(
        sql.SQL("""
            CREATE TABLE {table} (household_id bigint PRIMARY KEY, {demographics}, updated_at timestamptz NOT NULL);
            CREATE OR REPLACE FUNCTION {touch}() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
            CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {touch}();
        """).format(**names)
    )
