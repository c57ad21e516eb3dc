"""kill -9 of a load into Kafka at each step, and of the broker: each row is there exactly once, and nothing half-sent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from stack import processes
from stack.service import select
from stack.services import SERVICES
from stack.settings import LOOPBACK, ROOT
from stack.supervisor import Supervisor
from tallyclerk.exceptions import KafkaRefusedError, ServiceUnavailableError
from tallyclerk.sinks.kafka_commits import receipt_of
from tallyclerk.sinks.kafka_encoding import JsonEncoder, Messages
from tests.faults import dying_kafka_load
from tests.faults.dying_kafka_load import COMMITTED_PAGES, PAGE_ROWS, PAGES, STOPS, load
from tests.integration.kafka.topic_case import SCHEMA, TopicCase, bootstrap_servers, numbers_in_order, rows
from tests.second_stack import kill, second_stack

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


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A second Kafka, of this file's own, that obeys access rules where there are any."""
    root: Path = tmp_path_factory.mktemp("second-root")
    shutil.copytree(ROOT / "stack" / "conf", root / "stack" / "conf")
    (root / "stack" / "maven").symlink_to(ROOT / "stack" / "maven")
    (root / "include").symlink_to(ROOT / "include")
    with (root / "stack" / "conf" / "kafka" / "server.properties.in").open("a") as conf:
        conf.write(ACCESS_RULES)
    with second_stack(tmp_path_factory.mktemp("second-kafka"), "kafka", root=root, KAFKA_HEAP="320m") as stack:
        yield stack


@pytest.fixture
def own_case(broker: Supervisor) -> TopicCase:
    broker.up([KAFKA])
    made = TopicCase(f"{LOOPBACK}:{broker.settings.port('KAFKA')}")
    made.create()
    return made


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


def kill_after_the_first_page(broker: Supervisor, case: TopicCase) -> None:
    """Kill the broker in mid transaction, but not between its answer to the commit before and that one's markers.

    There Kafka 4.3 itself can forget the markers, so that a transaction it has acknowledged stays open for ever.
    """
    assert processes.wait_until(lambda: len(case.messages()) == PAGE_ROWS, 120)
    kill(broker, KAFKA)


@pytest.mark.slow
def test_the_load_waits_when_the_broker_is_killed_and_comes_back(
    broker: Supervisor, own_case: TopicCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyclerk.sinks.kafka_transaction._ENCODED_AT_ONCE", 200)
    restarting = threading.Thread(target=broker.up, args=([KAFKA],))

    def kill_and_restart() -> None:
        kill_after_the_first_page(broker, own_case)
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
        load(own_case, encoder=Interrupted(5, lambda: kill_after_the_first_page(broker, own_case)), limit_seconds=5)
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
