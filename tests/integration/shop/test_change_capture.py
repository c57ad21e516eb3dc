"""The publication and the heartbeat, in a schema of the test's own."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from include.shop import environment
from include.shop.change_capture import publish_changes
from include.shop.exceptions import ShopError

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def conninfo() -> str:
    return environment.database_conninfo()


@pytest.fixture
def connection(conninfo: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
        yield connection


@pytest.fixture
def name(connection: psycopg.Connection) -> Iterator[str]:
    """Of a schema with customers, and of a publication."""
    name = f"capture_{uuid4().hex[:12]}"
    connection.execute(f"CREATE SCHEMA {name}; CREATE TABLE {name}.customers (household_id bigint PRIMARY KEY)")
    yield name
    connection.execute(f"DROP PUBLICATION IF EXISTS {name}; DROP SCHEMA {name} CASCADE")


def published(connection: psycopg.Connection, name: str) -> list[str]:
    query = "SELECT tablename FROM pg_publication_tables WHERE pubname = %s AND schemaname = %s ORDER BY 1"
    return [table for (table,) in connection.execute(query, [name, name])]


def test_customers_and_heartbeat_are_published_once(conninfo: str, connection: psycopg.Connection, name: str) -> None:
    assert publish_changes(conninfo, schema=name, publication=name)
    assert published(connection, name) == ["customers", "heartbeat"]
    assert connection.execute(f"SELECT id FROM {name}.heartbeat").fetchall() == [(1,)]
    assert not publish_changes(conninfo, schema=name, publication=name)


def test_customers_log_full_rows_again_when_that_was_undone(
    conninfo: str, connection: psycopg.Connection, name: str
) -> None:
    publish_changes(conninfo, schema=name, publication=name)
    connection.execute(sql.SQL("ALTER TABLE {}.customers REPLICA IDENTITY DEFAULT").format(sql.Identifier(name)))
    assert publish_changes(conninfo, schema=name, publication=name)
    query = "SELECT relreplident::text FROM pg_class WHERE oid = %s::regclass"
    assert connection.execute(query, [f"{name}.customers"]).fetchall() == [("f",)]


def test_a_table_that_fell_out_of_the_publication_is_put_back(
    conninfo: str, connection: psycopg.Connection, name: str
) -> None:
    publish_changes(conninfo, schema=name, publication=name)
    connection.execute(sql.SQL("ALTER PUBLICATION {0} DROP TABLE {0}.customers").format(sql.Identifier(name)))
    assert publish_changes(conninfo, schema=name, publication=name)
    assert published(connection, name) == ["customers", "heartbeat"]


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(ShopError, match="does not let us in") as caught:
        publish_changes("host=127.0.0.1 port=1 user=retail dbname=retail password=hush")
    assert "hush" not in str(caught.value)
