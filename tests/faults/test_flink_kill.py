"""kill -9 of Flink's processes under load, and of the task that changes a job: the answer is exact, the job comes back unaided.

Flink is an instance of the test's own. TALLYCLERK_KILLS says how often each is killed (1 unless set).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.processes import wait_until
from stack.service import Service
from stack.services.flink import JOBMANAGER, TASKMANAGER
from stack.settings import ROOT, load_settings
from stack.supervisor import Supervisor
from tallyclerk.exceptions import ServiceUnavailableError
from tests.conftest import Tell
from tests.faults import dying_flink_change
from tests.faults.dying_flink_change import STOPS
from tests.integration.flink.flink_job_case import (
    FILTERED,
    LIMIT_SECONDS,
    FlinkJobCase,
    Till,
    run_to_end,
    set_connections,
)
from tests.second_stack import kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]
TIMES = int(os.environ.get("TALLYCLERK_KILLS", "1"))


@pytest.fixture(scope="module")
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with second_stack(tmp_path_factory.mktemp("second-flink"), "flink") as stack:
        yield stack


@pytest.fixture
def case(flink: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlinkJobCase]:
    """Kafka and Cassandra are the running stack's."""
    flink.up([JOBMANAGER, TASKMANAGER])
    set_connections(load_settings(), monkeypatch, flink=flink.settings)
    with FlinkJobCase.made(load_settings(), tmp_path) as case:
        yield case


class Supervision:
    """The operator, deferred and coming back, as worker and triggerer would run it."""

    def __init__(self, case: FlinkJobCase) -> None:
        self._operator, self.answer = case.operator(watch_until=3_600.0), {}
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self.answer |= run_to_end(self._operator, run_id="supervision")

    def __enter__(self) -> Supervision:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(LIMIT_SECONDS)
        assert not self._thread.is_alive()


def is_well(case: FlinkJobCase, *, since: float) -> bool:
    """A checkpoint was begun and completed after ``since``, with every task running."""
    try:
        looks = [case.hook.status(job_id) for job_id in case.alive()]
    except ServiceUnavailableError:
        return False
    return len(looks) == 1 and any(
        look.is_healthy(60) and look.newest.completed_at.timestamp() > since + 1
        for look in looks
        if look and look.newest
    )


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("service", [TASKMANAGER, JOBMANAGER], ids=lambda service: service.name)
def test_the_answer_is_exact_when_a_process_of_flink_is_killed_under_load(
    flink: Supervisor, case: FlinkJobCase, service: Service, attempt: int, tell: Tell
) -> None:
    with Supervision(case) as supervision:
        with Till(case):
            assert wait_until(lambda: is_well(case, since=0), LIMIT_SECONDS)
            sold = len(case.sent)
            assert wait_until(lambda: len(case.sent) > sold + 2_000, LIMIT_SECONDS)
            killed_at = time.time()
            kill(flink, service)
            flink.up([JOBMANAGER, TASKMANAGER])  # as whoever keeps the services does; the job is nobody's hand's
            up_at = time.time()
            assert wait_until(lambda: is_well(case, since=up_at), LIMIT_SECONDS)
            well_at = time.time()
            assert wait_until(lambda: len(case.sent) > sold + 5_000, LIMIT_SECONDS)
        assert case.agrees()
        run_to_end(case.operator(action="stop"), run_id="stop")
    assert (supervision.answer["did"], supervision.answer["resumed"]) == ("stopped", int(service is JOBMANAGER))
    tell(
        f"{service.name} killed: up again after {up_at - killed_at:.1f} s, the job well after {well_at - killed_at:.1f} s; "
        f"{len(case.sent):,} sales, 0 of {len(case.expected())} totals differ"
    )  # fmt: skip


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize(
    "stop", [pytest.param(stop, marks=() if "before" in stop else pytest.mark.long) for stop in STOPS]
)
def test_one_job_runs_and_is_exact_when_the_task_is_killed_in_mid_change(
    case: FlinkJobCase, tmp_path: Path, stop: str, attempt: int
) -> None:
    first = run_to_end(case.operator())
    with Till(case):
        die_in_mid_change(case, tmp_path, stop)
        # the retry: the same run
        changed = run_to_end(case.operator(FILTERED))
    assert (changed["generation"], case.alive()) == (first["generation"] + 1, [changed["job_id"]])
    assert case.agrees()


@pytest.mark.long
def test_one_job_runs_when_another_script_is_applied_after_the_task_was_killed(
    case: FlinkJobCase, tmp_path: Path
) -> None:
    run_to_end(case.operator())
    case.sell(500)
    die_in_mid_change(case, tmp_path, "after the new one is taken")
    other = run_to_end(case.operator(FILTERED.replace("customer_id IS NOT NULL", "transaction_id IS NOT NULL")))
    assert (other["did"], case.alive()) == ("changed", [other["job_id"]])
    assert [status for *_, status in case.generations()] == ["stopped", "stopped", "running"]
    case.sell(500)
    assert case.agrees()


def die_in_mid_change(case: FlinkJobCase, folder: Path, stop: str) -> None:
    asked: dict[str, Any] = {"name": case.name, "folder": str(folder), "stop": stop}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    died = subprocess.run(
        [sys.executable, dying_flink_change.__file__, json.dumps(asked)],
        cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
