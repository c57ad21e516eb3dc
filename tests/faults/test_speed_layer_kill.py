"""kill -9 of everything that the speed layer is made of, under load: the view's answer is exact, and nobody had to lend a hand.

An instance of the test's own. ``TALLYCLERK_KILLS`` says how often each is killed (1 unless set).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cassandra import DriverException, OperationTimedOut
from cassandra.cluster import NoHostAvailable, Session

from stack.processes import wait_until
from stack.services import cassandra as cassandra_service
from stack.services import flink, kafka
from stack.supervisor import Supervisor
from tests.conftest import Tell
from tests.faults.speed_layer import LIMIT_SECONDS, DrainTask, Job, Till, connections, expected, seconds_until, served
from tests.integration.cassandra.upsert_case import connect
from tests.second_stack import kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.long]
TIMES = int(os.environ.get("TALLYCLERK_KILLS", "1"))
FLINK = [flink.JOBMANAGER, flink.TASKMANAGER]


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with second_stack(
        tmp_path_factory.mktemp("second-speed"), "kafka", "cassandra", "flink", CASSANDRA_HEAP="512m"
    ) as stack:
        yield stack


@pytest.fixture
def session(layer: Supervisor) -> Iterator[Session]:
    with connect(layer.settings.port("CASSANDRA")) as cluster:
        yield cluster.connect()


def test_the_answer_is_exact_when_each_part_is_killed_under_load(
    layer: Supervisor, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    environment = connections(layer.settings)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    till = Till(layer.settings)

    def count() -> int:
        try:
            return sum(count for _, count in served(session).values())
        except (DriverException, NoHostAvailable, OperationTimedOut):
            return -1

    # the job keeps its state in a table of the keyspace that the drain makes
    session.execute(
        "CREATE KEYSPACE IF NOT EXISTS pipeline WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    with Job(layer.settings) as job, DrainTask(environment, tmp_path / "drain.log") as drain:
        with till:
            assert wait_until(lambda: count() > 500, LIMIT_SECONDS), (tmp_path / "drain.log").read_text()[-3_000:]
            for victim, strike in strikes(layer, till, drain).items():
                for _ in range(TIMES):
                    strike()
                    # a sale that is made after the kill is seen
                    target = till.count + 1
                    seconds = seconds_until(lambda target=target: count() >= target)
                    tell(f"{victim} killed: its next sale is in the view after {seconds:.1f} s")
        total = till.count
        wait_until(lambda: count() >= total, LIMIT_SECONDS)
        assert served(session) == expected(till)
    tell(
        f"{total:,} sales, 0 of {len(expected(till))} customers differ; the drain was started {drain.starts} times, "
        f"the supervising task {1 + len(job.failures)} times"
    )


def strikes(layer: Supervisor, till: Till, drain: DrainTask) -> dict[str, Callable[[], None]]:
    """What kills, and what whoever keeps the services does: start them again."""

    def broker() -> None:
        with till.paused():
            kill(layer, kafka.KAFKA)
        layer.up([kafka.KAFKA])

    def cassandra() -> None:
        kill(layer, cassandra_service.CASSANDRA)
        layer.up([cassandra_service.CASSANDRA])

    def of_flink(number: int) -> Callable[[], None]:
        def strike() -> None:
            kill(layer, FLINK[number])
            layer.up(FLINK)

        return strike

    return {
        "the drain's task": drain.kill,
        "the TaskManager": of_flink(1),
        "Cassandra": cassandra,
        "the broker": broker,
        "the JobManager": of_flink(0),
    }
