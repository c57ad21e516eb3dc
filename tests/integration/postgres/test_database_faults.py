"""Servers that are away, refuse or die, and arguments that are wrong."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from stack.services import postgres
from stack.supervisor import Supervisor
from tallyclerk.core.extract import Extract
from tallyclerk.core.window import Window
from tallyclerk.exceptions import RecordError, ServiceUnavailableError, SpecError, TransientError
from tallyclerk.sources import database_table
from tallyclerk.sources.database_table import DatabaseTable
from tests.integration.postgres.reading import conninfo
from tests.second_stack import free_ports, second_stack

pytestmark = pytest.mark.integration

DAY = Window.of_day("2026-03-01")


@pytest.fixture
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A PostgreSQL of this test's own, which it may kill."""
    with second_stack(tmp_path_factory.mktemp("spare"), "postgres") as stack:
        yield stack


@pytest.mark.faults
def test_a_server_killed_while_reading_is_a_transient_error(
    spare: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = conninfo(spare.settings)
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE big AS SELECT i, repeat(md5(i::text), 8) AS t FROM generate_series(1, 400000) i"
        )
    identity = spare.identity(postgres.POSTGRES)
    assert identity is not None
    batches = database_table.Snapshot.batches

    def kill_after_two(*arguments: object, **options: object) -> Iterator[object]:
        for number, batch in enumerate(batches(*arguments, **options)):
            if number == 2:
                os.kill(identity.pid, signal.SIGQUIT)  # immediate shutdown: every session is cut off
                time.sleep(1)
            yield batch

    monkeypatch.setattr(database_table.Snapshot, "batches", kill_after_two)
    spool = tmp_path / "spool"
    spool.mkdir()
    source = DatabaseTable(uri=uri, table="public.big", mode="full", max_memory_bytes=24 << 20)
    with pytest.raises(TransientError):
        source.extract(DAY, spool)
    assert list(tmp_path.iterdir()) == [spool]
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1"):
        source.extract(DAY, spool)


def test_a_cancelled_statement_is_transient(uri: str, schema: str, tmp_path: Path) -> None:
    query = "SELECT i, pg_sleep(0.01)::text AS s FROM generate_series(1, 100000) i"
    with pytest.raises(ServiceUnavailableError, match="57014"):
        DatabaseTable(uri=f"{uri} options='-c statement_timeout=300'", query=query, mode="full").extract(DAY, tmp_path)


def test_a_terminated_session_is_transient(superuser: psycopg.Connection, uri: str, tmp_path: Path) -> None:
    def terminate() -> None:
        for _ in range(100):
            time.sleep(0.05)
            if superuser.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'extract-to-end' "
                "AND query LIKE '%pg_sleep(0.001)%' AND pid <> pg_backend_pid()"
            ).fetchall():
                return

    thread = Thread(target=terminate)
    thread.start()
    query = "SELECT i, pg_sleep(0.001)::text AS s FROM generate_series(1, 100000) i"
    with pytest.raises(ServiceUnavailableError):
        DatabaseTable(uri=f"{uri} application_name=extract-to-end", query=query, mode="full").extract(DAY, tmp_path)
    thread.join()


def test_no_session_is_left_when_the_disk_fails(superuser: psycopg.Connection, uri: str, tmp_path: Path) -> None:
    query = "SELECT i, repeat('x', 1000) AS t FROM generate_series(1, 200000) i"
    source = DatabaseTable(
        uri=f"{uri} application_name=extract-to-fail", query=query, mode="full", max_memory_bytes=6 << 20
    )
    with pytest.raises(FileNotFoundError):
        source.extract(DAY, tmp_path / "missing")
    time.sleep(0.5)
    assert not superuser.execute(
        "SELECT query FROM pg_stat_activity WHERE application_name = 'extract-to-fail'"
    ).fetchall()


def test_a_server_that_is_away_is_transient(uri: str, tmp_path: Path) -> None:
    away = make_conninfo(uri, port=free_ports(1)[0])
    with pytest.raises(ServiceUnavailableError) as raised:
        DatabaseTable(uri=away, table="a.b", mode="full").extract(DAY, tmp_path)
    assert str(conninfo_to_dict(uri)["password"]) not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "hunter2wrong"}, "password authentication failed"),
        ({"dbname": "nowhere"}, "does not exist"),
        ({"user": "nobody_here"}, "refuses the connection"),
    ],
)
def test_a_refused_login_is_the_users_to_mend(change: dict[str, str], words: str, uri: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=words) as raised:
        DatabaseTable(uri=make_conninfo(uri, **change), table="a.b", mode="full").extract(DAY, tmp_path)
    assert "hunter2wrong" not in str(raised.value)


def test_an_unreadable_uri_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as raised:
        DatabaseTable(uri="postgresql://me:hunter2%zz@host/db", table="a.b", mode="full").extract(DAY, tmp_path)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_missing_table_is_named_with_near_ones(
    db: psycopg.Connection, schema: str, full: Callable[..., Extract]
) -> None:
    db.execute("CREATE TABLE customers (id int)")
    with pytest.raises(SpecError, match=rf"no table {schema}.custmers. Did you mean {schema}.customers"):
        full("custmers")
    with pytest.raises(SpecError, match="no column nme"):
        full("customers", columns=["id", "nme"])


def test_a_table_without_the_right_to_read_it_says_what_to_grant(
    superuser: psycopg.Connection, full: Callable[..., Extract], schema: str
) -> None:
    superuser.execute(f"CREATE TABLE {schema}.secret_table (id int)")
    with pytest.raises(SpecError, match="GRANT SELECT"):
        full("secret_table")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"query": "SELEC 1"}, SpecError, "42601"),
        ({"query": "SELECT 1 AS a, 2 AS a"}, SpecError, "more than once"),
        ({"query": "SELECT 10 / (i - 5) AS x FROM generate_series(1, 9) i"}, RecordError, "division by zero"),
        ({"query": "SELECT 1 AS a", "table": "b.c"}, SpecError, "either"),
        ({"query": "SELECT 1 AS a", "mode": "incremental"}, SpecError, "incremental_column"),
        ({"query": "SELECT 1 AS a", "special_values": "drop"}, SpecError, "special_values"),
        ({"query": "SELECT 1 AS a", "time_zone": "Mars/Base"}, SpecError, "time zone"),
        ({"query": "SELECT nextval('pg_catalog.nothing')"}, SpecError, "42P01"),
    ],
)
def test_a_wrong_argument_says_what_to_do(
    options: dict[str, object], error: type[Exception], words: str, full: Callable[..., Extract]
) -> None:
    with pytest.raises(error, match=words):
        full(**options)
