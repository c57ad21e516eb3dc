"""What the page says of streams, against the topic's own ends and the drain's own receipt."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from stack.settings import load_settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.ui import services, streams
from tallyclerk.ui.loads import Load
from tests.integration.cassandra.drain_case import DrainCase, connections, kpi
from tests.integration.cassandra.test_drain import case, session  # noqa: F401 - fixtures
from tests.running import RunTask

pytestmark = pytest.mark.integration

JUST_NOW = timedelta(minutes=5)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets the page ask a keyspace, by clients of the test's own."""

    def ask(keyspace: str) -> None:
        for name, stated in connections(load_settings().port("CASSANDRA")).items():
            facts = json.loads(stated) | ({"schema": keyspace} if name.endswith("CASSANDRA_DEFAULT") else {})
            monkeypatch.setenv(name, json.dumps(facts))

    monkeypatch.setattr(services, "_cassandra", None)
    monkeypatch.setattr(streams, "_topics", None)
    yield ask
    if services._cassandra is not None:
        services._cassandra.close()


@pytest.fixture
def drained(case: DrainCase, ask: Callable[[str], None], run_task: RunTask) -> Receipt:  # noqa: F811
    """The receipt of a drain that has taken 20 messages."""
    ask(case.name)
    case.send(kpi(number, 100) for number in range(20))
    return Receipt.from_dict(run_task(case.task()).value)


def load_of(receipt: Receipt) -> Load:
    return Load("dag", "task", "run", -1, datetime.now(UTC), receipt, None)


def test_a_drain_is_told_with_its_lag_when_messages_have_come_since(case: DrainCase, drained: Receipt) -> None:  # noqa: F811
    (told,) = streams.streams([])
    assert (told.target, told.topic, told.lag) == (f"Cassandra {case.name}", case.name, 0)
    assert told.receipt is not None
    assert told.receipt.ledger == drained.ledger == Ledger(read=20, written=20)
    assert told.freshness_seconds == drained.details["freshness_seconds"]["p95"]
    former = case.ends()
    case.send(kpi(number, 200) for number in range(7))
    (told,) = streams.streams([])
    # a transaction's markers take offsets too
    assert told.lag == sum(case.ends().values()) - sum(former.values()) >= 7
    assert told.newest_at is not None
    now = datetime.now(UTC)
    assert now - JUST_NOW < told.loaded_at <= told.newest_at <= now


def test_a_load_that_appends_is_told_beside_the_drains_and_one_of_a_window_is_not(
    case: DrainCase,  # noqa: F811
    drained: Receipt,
) -> None:
    ends = case.ends()
    position = {str(partition): end - 1 for partition, end in ends.items()}
    appended = Receipt(
        "sales", "a range", Ledger(), "hdfs://lake/data/raw/sales",
        cursor={"offsets": {case.name: {"0": [0, ends[0] - 1]}}, "position": position},
    )  # fmt: skip
    window = Receipt("sales", "2026-03-10", Ledger(), "hdfs://lake/data/raw/sales", cursor={"offsets": {case.name: {}}})
    _, told = streams.streams([load_of(window), load_of(appended)])
    assert (told.target, told.topic, told.lag, told.freshness_seconds) == ("raw/sales", case.name, len(ends), None)


def test_a_stream_has_no_lag_when_its_topic_is_gone(case: DrainCase, drained: Receipt) -> None:  # noqa: F811
    case.delete()
    try:
        (told,) = streams.streams([])
        assert (told.lag, told.newest_at) == (None, None)
    finally:
        case.create()


def test_no_stream_is_told_of_when_none_has_begun(ask: Callable[[str], None]) -> None:
    ask("no_such_keyspace")
    assert streams.streams([]) == []
