"""kill -9 of Cassandra in mid-load: on a second node of the tests' own, started by the stack program."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from cassandra.cluster import Session

from stack.service import select
from stack.services import SERVICES
from stack.supervisor import Supervisor
from tallyclerk.exceptions import ServiceUnavailableError
from tallyclerk.sinks.cassandra_client import Backoff
from tests.integration.cassandra.upsert_case import Case, connect, expected_sales, new_target, sales
from tests.second_stack import kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]
LAKE = f"hdfs://127.0.0.1:{os.environ.get('TALLYCLERK_HDFS_PORT', '8020')}/tmp/tests/cassandra-kill"
(CASSANDRA,) = select(SERVICES, ["cassandra"])


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with second_stack(tmp_path_factory.mktemp("second-cassandra"), "cassandra", CASSANDRA_HEAP="512m") as stack:
        yield stack


@pytest.fixture
def session(node: Supervisor) -> Iterator[Session]:
    supervisor_up(node)
    with connect(node.settings.port("CASSANDRA")) as cluster:
        yield cluster.connect()


@pytest.fixture
def case(session: Session) -> Case:
    made = Case(session, f"{LAKE}/{uuid.uuid4().hex}", new_target(f"kill_{uuid.uuid4().hex[:12]}"))
    made.sink().create()
    return made


def supervisor_up(node: Supervisor) -> None:
    if node.identity(CASSANDRA) is None:
        node.up([CASSANDRA])


def when_rows_arrive(case: Case, rows: pa.Table, action: Callable[[], None]) -> threading.Thread:
    """Runs ``action`` once the 300th of ``rows`` stands in the table."""
    key = uuid.UUID(rows["id"][300].as_py())

    def wait() -> None:
        deadline = time.monotonic() + 120
        find = f"SELECT id FROM {case.target.cql_name} WHERE id = %s"
        while case.session.execute(find, (key,)).one() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ServiceUnavailableError as error:
        return error


def test_the_rows_are_exact_when_cassandra_is_killed_and_comes_back_in_mid_load(node: Supervisor, case: Case) -> None:
    rows = sales(12_000)
    case.write_lake(rows)

    def kill_and_restart() -> None:
        kill(node, CASSANDRA)
        time.sleep(3)
        supervisor_up(node)

    restarter = when_rows_arrive(case, rows, kill_and_restart)
    receipt = case.load(backoff=Backoff(limit_seconds=240), verify_limit_rows=100)
    restarter.join()
    assert receipt.details["recoveries"] >= 1
    assert receipt.details["verification"] == "every key"  # after an outage a sample is not enough
    assert receipt.ledger.written == 12_000
    assert case.rows() == expected_sales(rows)


def test_the_retry_makes_the_rows_exact_when_cassandra_stays_away_too_long(node: Supervisor, case: Case) -> None:
    case.write_lake(sales(3_000, first=90_000))
    case.load()
    rows = sales(12_000)
    case.write_lake(rows)
    killer = when_rows_arrive(case, rows, lambda: kill(node, CASSANDRA))
    began = time.monotonic()
    error = outcome(lambda: case.load(backoff=Backoff(limit_seconds=6)))
    assert isinstance(error, ServiceUnavailableError)
    assert time.monotonic() - began < 60
    killer.join()
    supervisor_up(node)
    with connect(node.settings.port("CASSANDRA")) as cluster:
        again = Case(cluster.connect(), case.uri, case.target)
        signed = again.session.execute(
            f'SELECT generation, finished_at FROM {case.target.keyspace}.tallyclerk_loads WHERE dataset = %s AND target = %s AND "window" = %s',
            ("sales", case.target.table, "2017-03-05"),
        ).all()
        assert [row.finished_at is None for row in signed] == [True, False]  # the broken attempt is not signed
        receipt = again.load(backoff=Backoff(limit_seconds=60))
        assert (receipt.ledger.written, receipt.details["removed_rows"]) == (12_000, 3_000)
        assert again.rows() == expected_sales(rows)
