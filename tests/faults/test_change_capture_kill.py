"""kill -9 of change capture at each step, and of the database: each committed change is in the topic exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.service import select
from stack.services import SERVICES
from stack.settings import ROOT
from stack.supervisor import Supervisor
from tallyclerk.exceptions import ServiceUnavailableError
from tests.faults import dying_change_capture
from tests.faults.dying_change_capture import BEGINNING, FOLLOWING
from tests.integration.kafka.change_case import ChangeCase, change_case
from tests.second_stack import second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration]
TIMES = int(os.environ.get("TALLYCLERK_KILLS", "1"))
"""How often the task is killed at each step."""
(POSTGRES,) = select(SERVICES, ["postgres"])


@pytest.fixture
def case(tmp_path: Path) -> Iterator[ChangeCase]:
    with change_case(tmp_path) as made:
        yield made


def killed(case: ChangeCase, stop: str, number: int) -> None:
    """A run that dies at a step."""
    asked = {
        "bootstrap": case.topic.bootstrap, "name": case.topic.name, "uri": case.uri, "contract": str(case.contract),
        "number": number, "stop": stop,
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    died = subprocess.run(
        [sys.executable, dying_change_capture.__file__], input=json.dumps(asked), text=True, cwd=ROOT, env=environment,
        capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr


def change(case: ChangeCase, round_: int) -> Counter[tuple[str, int]]:
    """Six committed changes, and some that are not; how often which op comes for which key."""
    first = 1000 * round_
    case.db.execute(f"INSERT INTO {case.table} SELECT i, 'new' FROM generate_series({first}, {first + 2}) i")
    case.db.execute(f"UPDATE {case.table} SET label = 'changed' WHERE id IN (1, {first})")
    case.db.execute(f"DELETE FROM {case.table} WHERE id = {first + 1}")
    case.db.execute(f"BEGIN; DELETE FROM {case.table}; ROLLBACK")
    return Counter([("c", first), ("c", first + 1), ("c", first + 2), ("u", 1), ("u", first), ("d", first + 1)])


def told(case: ChangeCase) -> Counter[tuple[str, int]]:
    return Counter((event["__op"], event["id"]) for event in case.events() if event["__op"] != "r")


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("stop", BEGINNING)
def test_each_row_and_change_is_there_once_when_the_first_run_is_killed(
    stop: str, attempt: int, case: ChangeCase
) -> None:
    case.db.execute(f"INSERT INTO {case.table} SELECT i, 'first' FROM generate_series(1, 50) i")
    killed(case, stop, 0)
    changes = change(case, 1)
    case.load(0)
    changes += change(case, 2)
    case.load(1)
    events = case.events()
    read = Counter(event["id"] for event in events if event["__op"] == "r")
    assert set(read.values()) == {1}
    assert set(range(1, 51)) <= set(read)
    # what was committed before the slot that was used in the end is among the rows, and the rest are changes, once
    expected = changes if stop.startswith("right after") else change_of(2, changes)
    assert told(case) == expected
    assert case.state() == case.rows()


def change_of(round_: int, changes: Counter[tuple[str, int]]) -> Counter[tuple[str, int]]:
    """The changes of one round of two."""
    return Counter({(op, key): 1 for op, key in changes if key == 1 or key // 1000 == round_})


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("stop", FOLLOWING)
def test_each_change_is_there_once_when_a_run_is_killed(stop: str, attempt: int, case: ChangeCase) -> None:
    case.db.execute(f"INSERT INTO {case.table} SELECT i, 'first' FROM generate_series(1, 50) i")
    case.load(0)
    changes = change(case, 1)
    killed(case, stop, 1)
    visible = told(case)
    assert visible == (changes if stop.startswith("right after") else Counter())
    changes += change(case, 2)
    receipt = case.load(1)
    case.load(2)
    assert told(case) == changes
    assert case.state() == case.rows()
    assert case.tombstones() == [1001, 2001]
    assert receipt.details["complete"]


@pytest.fixture
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A PostgreSQL of this test's own, which it may kill."""
    with second_stack(tmp_path_factory.mktemp("spare"), "postgres") as stack:
        yield stack


def test_each_change_is_there_once_when_the_database_is_killed(
    spare: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallyclerk.sources.replication_slot import ReplicationSlot

    with change_case(tmp_path, settings=spare.settings) as case:
        case.db.execute(f"INSERT INTO {case.table} VALUES (1, 'first')")
        case.load(0)
        changes = change(case, 1)
        case.load(1)  # the slot's move is on disk at the next checkpoint only
        changes += change(case, 2)

        def kill(*_: object) -> None:
            identity = spare.identity(POSTGRES)
            assert identity is not None
            os.kill(identity.pid, signal.SIGQUIT)  # no checkpoint, every session is cut off
            spare.down([POSTGRES])

        with monkeypatch.context() as patched:
            patched.setattr(
                ReplicationSlot, "advance", lambda self, connection, lsn: (kill(), connection.execute("SELECT 1"))
            )
            with pytest.raises(ServiceUnavailableError):
                case.load(2)  # its changes are committed in Kafka
        with pytest.raises(ServiceUnavailableError):
            case.load(3)
        spare.up([POSTGRES])
        with case.reconnected() as again:
            changes += change(again, 3)
            assert again.load(2).repeated
            again.load(3)
            assert told(again) == changes
            assert again.state() == again.rows()
