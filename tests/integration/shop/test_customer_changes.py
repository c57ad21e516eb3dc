"""Changes of the master data, in a schema of the test's own."""

from collections.abc import Iterator
from datetime import date
from uuid import uuid4

import psycopg
import pytest

from include.shop import environment
from include.shop.customer_changes import FIRST_NEW_HOUSEHOLD, CustomerChanges, change_customers
from include.shop.customers import seed_customers
from include.shop.exceptions import ShopError
from include.shop.trading_days import TradingDays

pytestmark = pytest.mark.integration
DAYS = TradingDays(date(2026, 6, 11))


@pytest.fixture
def schema() -> Iterator[str]:
    name = f"changing_{uuid4().hex[:12]}"
    seed_customers(environment.database_conninfo(), DAYS, schema=name)
    yield name
    with psycopg.connect(environment.database_conninfo(), autocommit=True) as connection:
        connection.execute(f"SET client_min_messages = warning; DROP SCHEMA {name} CASCADE")


def rows_of(schema: str) -> dict[int, tuple]:
    with psycopg.connect(environment.database_conninfo()) as connection:
        return {row[0]: row[1:] for row in connection.execute(f"SELECT * FROM {schema}.customers")}


def test_as_many_rows_differ_as_changes_were_asked_for_and_seeding_mends_the_known_ones(schema: str) -> None:
    conninfo, before = environment.database_conninfo(), rows_of(schema)
    assert change_customers(conninfo, 12, schema=schema) == CustomerChanges(updated=8, inserted=4, deleted=0)
    changed = rows_of(schema)
    assert sorted(set(changed) - set(before)) == [FIRST_NEW_HOUSEHOLD + number for number in range(4)]
    assert sum(changed[household] != row for household, row in before.items()) == 8
    assert change_customers(conninfo, 12, schema=schema) == CustomerChanges(updated=6, inserted=4, deleted=2)
    after = rows_of(schema)
    assert len(after) == len(before) + 6
    assert set(before) <= set(after)
    seed_customers(conninfo, DAYS, schema=schema)
    mended = rows_of(schema)
    assert {household: mended[household][:-1] for household in before} == {key: row[:-1] for key, row in before.items()}
    assert len(mended) == len(after)


def test_a_shop_without_customers_says_how_to_get_them() -> None:
    with pytest.raises(ShopError, match="seed --only customers"):
        change_customers(environment.database_conninfo(), 3, schema=f"none_{uuid4().hex[:8]}")
    with pytest.raises(ShopError, match="at least one"):
        change_customers(environment.database_conninfo(), 0)
