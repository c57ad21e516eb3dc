"""kill -9 of a load into Kafka at each step, and of the broker: each row is there exactly once, and nothing half-sent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from stack.service import dependants, select
from stack.services import SERVICES
from stack.settings import LOOPBACK, PORTS, ROOT, load_settings
from stack.supervisor import Supervisor
from tallyclerk.exceptions import KafkaRefusedError, ServiceUnavailableError
from tallyclerk.sinks.kafka_commits import receipt_of
from tallyclerk.sinks.kafka_encoding import JsonEncoder, Messages
from tests.faults import dying_kafka_load
from tests.faults.dying_kafka_load import COMMITTED_PAGES, PAGE_ROWS, PAGES, STOPS, load
from tests.integration.kafka.topic_case import SCHEMA, TopicCase, bootstrap_servers, numbers_in_order, rows

pytestmark = [pytest.mark.faults, pytest.mark.integration]
TIMES = int(os.environ.get("TALLYCLERK_KILLS", "1"))
"""How often the load is killed at each step."""
(KAFKA,) = select(SERVICES, ["kafka"])
ACCESS_RULES = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


@pytest.fixture
def case() -> Iterator[TopicCase]:
    made = TopicCase(bootstrap_servers())
    made.create()
    yield made
    made.delete()


def assert_each_row_once(case: TopicCase) -> None:
    messages = case.messages()
    assert case.numbers() == list(range(PAGES * PAGE_ROWS))
    assert all(numbers == sorted(numbers) for numbers in numbers_in_order(messages).values())


@pytest.mark.parametrize("attempt", range(TIMES))
@pytest.mark.parametrize("stop", STOPS)
def test_each_row_is_there_once_when_the_load_is_killed_and_run_again(case: TopicCase, stop: str, attempt: int) -> None:
    asked = json.dumps({"bootstrap": case.bootstrap, "name": case.name, "stop": stop})
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    died = subprocess.run(
        [sys.executable, dying_kafka_load.__file__, asked], cwd=ROOT, env=environment, capture_output=True, timeout=300, check=False
    )  # fmt: skip
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    before = case.numbers() if stop.startswith("after the others") else None
    assert before in (None, [])
    receipt, sent = load(case)
    assert sent == PAGES - COMMITTED_PAGES[stop]
    assert (receipt.ledger.written, receipt.version, receipt.details["complete"]) == (PAGES * PAGE_ROWS, PAGES, True)
    assert_each_row_once(case)
    if stop in ("after the page is acknowledged", "right before its commit"):  # it did reach the broker
        assert len(case.messages(isolation="read_uncommitted")) == (PAGES + 1) * PAGE_ROWS


def free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A second Kafka, of this file's own, that obeys access rules where there are any."""
    home: Path = tmp_path_factory.mktemp("second-kafka")
    root: Path = tmp_path_factory.mktemp("second-root")
    shutil.copytree(ROOT / "stack" / "conf", root / "stack" / "conf")
    (root / "stack" / "maven").symlink_to(ROOT / "stack" / "maven")
    (root / "include").symlink_to(ROOT / "include")
    with (root / "stack" / "conf" / "kafka" / "server.properties.in").open("a") as conf:
        conf.write(ACCESS_RULES)
    (home / "jars").symlink_to(load_settings().home / "jars")
    environ = {
        **os.environ,
        **{name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)},
        "TALLYCLERK_HOME": str(home),
        "TALLYCLERK_ENV_FILE": str(home / ".env"),
        "TALLYCLERK_KAFKA_HEAP": "320m",
    }
    supervisor = Supervisor(load_settings(environ, root=root))
    supervisor.up([KAFKA])
    yield supervisor
    supervisor.down(dependants(SERVICES, ["kafka"]))
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def own_case(broker: Supervisor) -> TopicCase:
    broker.up([KAFKA])
    made = TopicCase(f"{LOOPBACK}:{broker.settings.port('KAFKA')}")
    made.create()
    return made


def kill(broker: Supervisor) -> None:
    identity = broker.identity(KAFKA)
    assert identity is not None
    os.kill(identity.pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while broker.identity(KAFKA) is not None:  # else `up` takes the dying process for a living one
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Interrupted:
    """Encodes as JSON, and does something before its ``call``-th chunk."""

    def __init__(self, call: int, action: Callable[[], None]) -> None:
        self._inner, self._left, self._action = JsonEncoder(SCHEMA, ["id"]), call, action

    def encode(self, table: pa.Table) -> Messages:
        self._left -= 1
        if self._left == 0:
            self._action()
        return self._inner.encode(table)

    def keys(self, table: pa.Table) -> pa.ChunkedArray:
        return self._inner.keys(table)


@pytest.mark.slow
def test_the_load_waits_when_the_broker_is_killed_and_comes_back(
    broker: Supervisor, own_case: TopicCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyclerk.sinks.kafka_transaction._ENCODED_AT_ONCE", 200)
    restarting = threading.Thread(target=broker.up, args=([KAFKA],))

    def kill_and_restart() -> None:
        kill(broker)
        restarting.start()

    receipt, sent = load(own_case, encoder=Interrupted(5, kill_and_restart))  # in the second page
    restarting.join()
    assert (receipt.ledger.written, sent) == (PAGES * PAGE_ROWS, PAGES)
    assert_each_row_once(own_case)


@pytest.mark.slow
def test_the_retry_finishes_the_load_when_the_broker_stays_away_too_long(
    broker: Supervisor, own_case: TopicCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyclerk.sinks.kafka_transaction._ENCODED_AT_ONCE", 200)
    own_case.settings["message.timeout.ms"] = 6_000
    with pytest.raises(ServiceUnavailableError, match="Kafka at 127"):
        load(own_case, encoder=Interrupted(5, lambda: kill(broker)), limit_seconds=5)
    broker.up([KAFKA])
    own_case.settings.clear()
    _, sent = load(own_case)
    assert sent == PAGES - 1
    assert_each_row_once(own_case)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "remedy"),
    [(ResourceType.TOPIC, "WRITE and DESCRIBE"), (ResourceType.TRANSACTIONAL_ID, "transactional ids")],
    ids=["topic", "transactional id"],
)
def test_nothing_is_visible_when_kafka_refuses_the_right_to_write(
    own_case: TopicCase, kind: ResourceType, remedy: str
) -> None:
    def rule(operation: AclOperation, permission: AclPermissionType) -> AclBinding:
        name = own_case.name if kind == ResourceType.TOPIC else own_case.sink().transactional_id
        return AclBinding(kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, permission)

    rules = [
        rule(AclOperation.WRITE, AclPermissionType.DENY),
        rule(AclOperation.DESCRIBE, AclPermissionType.ALLOW),
        *([rule(AclOperation.READ, AclPermissionType.ALLOW)] if kind == ResourceType.TOPIC else []),
    ]
    for future in own_case.admin.create_acls(rules).values():
        future.result(120)
    with pytest.raises(KafkaRefusedError, match=remedy), own_case.sink() as sink:
        sink.commit(rows(10), own_case.receipt(10), complete=True)
    assert own_case.messages(isolation="read_uncommitted") == []
    assert receipt_of(own_case.client, own_case.load, commits_topic=own_case.commits) is None
