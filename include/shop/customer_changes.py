"""Changes of the master data, for who watches it: customers give other answers, sign up, and leave again.

Only demographics of the known households change, which the next seeding mends, and only households that this made leave: those
with sales stay. New households have numbers from 1,000,001 on, far above the source's.
"""

import random
from dataclasses import dataclass

import psycopg
from psycopg import sql

from include.shop.customers import DEMOGRAPHICS
from include.shop.exceptions import ShopError

FIRST_NEW_HOUSEHOLD = 1_000_001


@dataclass(frozen=True, slots=True)
class CustomerChanges:
    """How many households did what."""

    updated: int
    inserted: int
    deleted: int


def change_customers(conninfo: str, count: int, *, schema: str = "public") -> CustomerChanges:
    """Make ``count`` changes in one transaction: of six, three are updates, two new households and one that leaves.

    With fewer new households than should leave, the rest are updates.

    :raises ShopError: ``count`` is below 1, the table is empty, or the database cannot be reached.
    """
    if count < 1:
        raise ShopError(f"{count} changes cannot be made; ask for at least one.")
    try:
        with psycopg.connect(conninfo, connect_timeout=10, application_name="tallyclerk-shop") as connection:
            return _change(connection, sql.Identifier(schema, "customers"), count)
    except psycopg.errors.UndefinedTable as error:
        raise ShopError(
            "The shop has no customers yet. Remedy: python -m include.shop seed --only customers"
        ) from error
    except psycopg.OperationalError as error:
        raise ShopError(f"The shop's database does not let us in: {' '.join(str(error).split())}") from error


def _change(connection: psycopg.Connection, table: sql.Identifier, count: int) -> CustomerChanges:
    def run(statement: str, values: list[object]) -> int:
        demographics = sql.SQL(", ").join(map(sql.Identifier, DEMOGRAPHICS))
        return connection.execute(sql.SQL(statement).format(table=table, demographics=demographics), values).rowcount

    deleted = run(
        "DELETE FROM {table} WHERE household_id IN (SELECT household_id FROM {table} WHERE household_id >= %s "
        "ORDER BY random() LIMIT %s)",
        [FIRST_NEW_HOUSEHOLD, count // 6],
    )
    # a new household's answers are those of some known one, so that every value is one of the source's
    inserted = run(
        "INSERT INTO {table} (household_id, {demographics}, updated_at) "
        "SELECT (SELECT greatest(max(household_id) + 1, %s) FROM {table}) + row_number() OVER () - 1, {demographics}, now() "
        "FROM (SELECT {demographics} FROM {table} WHERE household_id < %s ORDER BY random() LIMIT %s) AS known",
        [FIRST_NEW_HOUSEHOLD, FIRST_NEW_HOUSEHOLD, count // 3],
    )
    households = connection.execute(
        sql.SQL("SELECT household_id, income FROM {} WHERE household_id < %s ORDER BY random() LIMIT %s").format(table),
        [FIRST_NEW_HOUSEHOLD, count - deleted - inserted],
    ).fetchall()
    incomes = connection.execute(
        sql.SQL("SELECT DISTINCT income FROM {} WHERE income IS NOT NULL ORDER BY income").format(table)
    ).fetchall()
    if not households or not incomes:
        raise ShopError("The shop has no customers yet. Remedy: python -m include.shop seed --only customers")
    update = sql.SQL("UPDATE {} SET income = %s WHERE household_id = %s").format(table)
    with connection.cursor() as cursor:
        cursor.executemany(
            update,
            [
                (random.choice([income for (income,) in incomes if income != former]), household)
                for household, former in households
            ],
        )
    return CustomerChanges(updated=len(households), inserted=inserted, deleted=deleted)
