"""kill -9 of the drain at each step, and of Cassandra under it: after the retry the table is the newest value of each key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Session
from hdfs_native import Client

from stack.service import select
from stack.services import SERVICES
from stack.settings import LOOPBACK, ROOT, load_settings
from stack.supervisor import Supervisor
from tallyclerk.core.ledger import Ledger
from tallyclerk.exceptions import ServiceUnavailableError
from tallyclerk.sinks.cassandra_client import BoundedWriter
from tests.faults import dying_drain
from tests.faults.dying_drain import MOVED, PIECE_MESSAGES, STOPS
from tests.integration.cassandra.drain_case import BROKEN, DrainCase, connections, key_of, kpi
from tests.integration.cassandra.upsert_case import connect
from tests.running import RunTask
from tests.second_stack import kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration]
TIMES = int(os.environ.get("TALLYCLERK_KILLS", "1"))
"""How often the drain is killed at each step."""
KEYS, REPEATED, REMOVED = 1_500, 600, 40
MESSAGES = KEYS + REPEATED + REMOVED + 1
(CASSANDRA,) = select(SERVICES, ["cassandra"])


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect(load_settings().port("CASSANDRA")) as cluster:
        yield cluster.connect()


@pytest.fixture
def case(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrainCase]:
    made = DrainCase(str(tmp_path), load_settings().port("CASSANDRA"))
    yield from _filled(made, monkeypatch)
    session.execute(f"DROP KEYSPACE IF EXISTS {made.name}", timeout=120)


def _filled(made: DrainCase, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrainCase]:
    """Old values, newer ones of some keys, tombstones, and a message that is none."""
    for name, value in connections(made.cassandra_port).items():
        monkeypatch.setenv(name, value)
    made.create()
    made.send(kpi(number, 100) for number in range(KEYS))
    made.send([(key_of(7), BROKEN), *(kpi(number, 200) for number in range(REPEATED))])
    made.send((key_of(number), None) for number in range(REMOVED))
    yield made
    made.delete()
    made.delete_group()
    Client(f"hdfs://{LOOPBACK}:{load_settings().port('HDFS')}").delete(made.lake, recursive=True)


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("stop", STOPS)
def test_the_table_is_the_newest_of_each_key_when_the_drain_is_killed_and_run_again(
    case: DrainCase, session: Session, run_task: RunTask, stop: str, attempt: int
) -> None:
    asked = {"folder": case.folder, "cassandra_port": case.cassandra_port, "name": case.name, "stop": stop}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    died = subprocess.run(
        [sys.executable, dying_drain.__file__, json.dumps(asked)], cwd=ROOT, env=environment, capture_output=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    held = case.position(session)
    assert bool(held.offsets) == (stop in MOVED)
    before = Ledger.from_dict(json.loads(held.receipt)["ledger"]).read if held.receipt else 0
    assert before in ((0,) if stop not in MOVED else range(PIECE_MESSAGES, MESSAGES))
    receipt = run_task(case.task()).value
    assert Ledger.from_dict(receipt["ledger"]).read == MESSAGES - before
    assert (receipt["version"], receipt["details"]["lag_rows"]) == (1, 0)
    assert case.rows(session) == case.newest()
    assert len(case.rows(session)) == KEYS - REMOVED
    assert [reason for reason, _, _ in case.quarantined()] == ["json"]
    assert dict(case.position(session).offsets) == case.ends() == case.group_position()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with second_stack(tmp_path_factory.mktemp("second-cassandra"), "cassandra", CASSANDRA_HEAP="512m") as stack:
        yield stack


@pytest.fixture
def own_case(node: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DrainCase]:
    """The keyspace goes with the node."""
    if node.identity(CASSANDRA) is None:
        node.up([CASSANDRA])
    yield from _filled(DrainCase(str(tmp_path), node.settings.port("CASSANDRA")), monkeypatch)


def before_write(monkeypatch: pytest.MonkeyPatch, call: int, action: Any) -> None:
    """Do something before the ``call``-th write."""
    original, calls = BoundedWriter.send, 0

    def send(self: BoundedWriter, *arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == call:
            action()
        original(self, *arguments)

    monkeypatch.setattr(BoundedWriter, "send", send)


def assert_newest(case: DrainCase) -> None:
    with connect(case.cassandra_port) as cluster:
        own = cluster.connect()
        assert case.rows(own) == case.newest()
        assert dict(case.position(own).offsets) == case.ends()


@pytest.mark.long
@pytest.mark.parametrize("attempt", range(TIMES))
def test_the_drain_waits_when_cassandra_is_killed_and_comes_back(
    node: Supervisor, own_case: DrainCase, run_task: RunTask, monkeypatch: pytest.MonkeyPatch, attempt: int
) -> None:
    restarting = threading.Thread(target=node.up, args=([CASSANDRA],))

    def kill_and_restart() -> None:
        kill(node, CASSANDRA)
        restarting.start()

    before_write(monkeypatch, 20, kill_and_restart)
    receipt = run_task(own_case.task(unavailable_limit_seconds=300.0)).value
    restarting.join()
    assert receipt["details"]["recoveries"] >= 1
    assert Ledger.from_dict(receipt["ledger"]).read == MESSAGES
    assert_newest(own_case)


@pytest.mark.long
def test_the_retry_makes_the_table_exact_when_cassandra_stays_away_too_long(
    node: Supervisor, own_case: DrainCase, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_write(monkeypatch, 20, lambda: kill(node, CASSANDRA))
    with pytest.raises(ServiceUnavailableError, match="Cassandra at 127"):
        run_task(own_case.task(unavailable_limit_seconds=5.0))
    node.up([CASSANDRA])
    receipt = run_task(own_case.task(unavailable_limit_seconds=60.0)).value
    assert Ledger.from_dict(receipt["ledger"]).read == MESSAGES
    assert_newest(own_case)
