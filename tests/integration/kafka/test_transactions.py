"""What readers see of a load, and what the next attempt knows of it."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewTopic

from tallyclerk.core.offsets import Offsets
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import (
    ConcurrentLoadError,
    KafkaRefusedError,
    LedgerError,
    RecordError,
    ServiceUnavailableError,
    SpecError,
    TerminalError,
    TransientError,
)
from tallyclerk.sinks.kafka_commits import newest_commits, receipt_of
from tallyclerk.sinks.kafka_encoding import JsonEncoder, Messages
from tallyclerk.sinks.quarantine import quarantine_schema
from tests.integration.kafka.topic_case import SCHEMA, TopicCase, numbers_in_order, rows

pytestmark = pytest.mark.integration


def rejects(case: TopicCase, *records: int) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "dataset": case.name, "window": "2017-03-05", "load_id": "x", "source": "page 1", "record_number": record,
                "column": column, "reason": "type", "raw_text": '{"n": "Grüße"}', "contract_version": "1.0.0",
                "rejected_at": datetime(2017, 3, 5, tzinfo=UTC),
            }
            for record in records
            for column in ("n", "id")
        ],
        schema=quarantine_schema(),
    )  # fmt: skip


def test_a_load_in_two_parts_is_there_once_when_it_is_complete(case: TopicCase) -> None:
    with case.sink() as sink:
        assert (sink.progress(case.load), sink.cursor()) == (None, {})
        first = sink.commit(rows(700), case.receipt(700, cursor={"page": 1}), complete=False)
        last = sink.commit(rows(300, first=700), case.receipt(1000, cursor={"page": 2}), complete=True)
        assert sink.progress(case.load) == last
    assert (first.version, last.version) == (1, 2)
    assert (first.details["complete"], last.details["complete"], last.details["acked"]) == (False, True, 1000)
    assert last.location == f"kafka://{case.bootstrap}/{case.name}"
    messages = case.messages()
    assert case.numbers() == list(range(1000))
    assert all(numbers == sorted(numbers) for numbers in numbers_in_order(messages).values())
    ends: dict[int, list[int]] = {}
    for message in messages:
        ends.setdefault(message.partition, []).append(message.offset)
    assert Offsets.from_dict(last.details["offsets"]).ranges == {
        partition: (min(offsets), max(offsets) + 1) for partition, offsets in ends.items()
    }


def test_the_next_attempt_goes_on_from_the_cursor_when_the_first_stopped_in_between(case: TopicCase) -> None:
    with case.sink() as sink:
        committed = sink.commit(rows(10), case.receipt(10, cursor={"page": 1}), complete=False)
    with case.sink() as sink:
        assert sink.cursor() == {"page": 1}
        assert sink.progress(case.load) == committed
        sink.commit(rows(5, first=10), case.receipt(15, cursor={"page": 2}), complete=True)
    assert case.numbers() == list(range(15))
    found = receipt_of(case.client, case.load, commits_topic=case.commits)
    assert found is not None
    assert (found.ledger.written, found.cursor, found.version) == (15, {"page": 2}, 2)


def test_the_commit_is_written_when_a_load_has_no_rows(case: TopicCase) -> None:
    with case.sink() as sink:
        sink.commit(rows(0), case.receipt(0, cursor={"page": 0}), complete=True)
    found = receipt_of(case.client, case.load, commits_topic=case.commits)
    assert found is not None
    assert found.details == {"offsets": {case.name: {}}, "acked": 0, "complete": True}
    assert case.messages() == []


def test_a_complete_load_is_not_sent_again_unless_it_is_restarted(case: TopicCase) -> None:
    with case.sink() as sink:
        sink.commit(rows(3), case.receipt(3), complete=True)
        with pytest.raises(TerminalError, match="restart"):
            sink.commit(rows(3), case.receipt(3), complete=True)
        sink.restart(case.load)
        again = sink.commit(rows(3), case.receipt(3), complete=True)
    assert case.numbers() == [0, 0, 1, 1, 2, 2]
    # the receipt names the rows that were sent last, and only these
    named = Offsets.from_dict(again.details["offsets"]).ranges
    last = [message for message in case.messages() if named[message.partition][0] <= message.offset]
    assert sorted(json.loads(message.value or b"")["n"] for message in last) == [0, 1, 2]


def test_the_cursor_stays_when_a_window_is_backfilled(case: TopicCase) -> None:
    with case.sink() as sink:
        sink.commit(rows(2), case.receipt(2, window="2017-03-05", cursor={"day": 5}), complete=True)
    with case.sink(forward=False) as sink:
        old = sink.commit(rows(2), case.receipt(2, window="2017-03-01", cursor={"day": 1}), complete=True)
    with case.sink() as sink:
        assert sink.cursor() == {"day": 5}
        assert sink.progress(f"{case.name}@2017-03-01") == old
    assert old.cursor == {"day": 1}
    found = newest_commits(case.client, case.name, commits_topic=case.commits)
    assert [(receipt.window, receipt.version) for receipt in found.newest_first()] == [
        ("2017-03-01", 2),
        ("2017-03-05", 1),
    ]


def test_rejects_come_with_their_rows_when_records_do_not_fit(case: TopicCase) -> None:
    with case.sink() as sink:
        receipt = sink.commit(rows(4), case.receipt(4, rejected=2), complete=True, rejects=rejects(case, 7, 9))
    assert receipt.quarantine == f"kafka://{case.bootstrap}/{case.rejected}"
    found = [json.loads(message.value or b"") for message in case.messages(case.rejected)]
    assert [(each["record_number"], each["column"]) for each in found] == [(7, "n"), (7, "id"), (9, "n"), (9, "id")]
    assert found[0]["raw_text"] == '{"n": "Grüße"}'


def test_a_deleted_key_is_a_tombstone_in_its_place_when_rows_say_so(case: TopicCase) -> None:
    loose = pa.schema([pa.field("id", pa.string()), pa.field("n", pa.int64())])
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False)])
    changes = pa.table({"id": ["a", "a", "b", "a"], "n": [1, None, 2, 3]}, schema=loose)
    dead = pa.array([False, True, False, False])
    with case.sink(encoder=JsonEncoder(schema, ["id"])) as sink:
        receipt = sink.commit(changes, case.receipt(3), complete=True, tombstones=dead)
    assert receipt.details["acked"] == 4
    of_a = [message.value for message in case.messages() if message.key == b"a"]
    assert of_a == [b'{"id":"a","n":1}', None, b'{"id":"a","n":3}']


@pytest.mark.parametrize(
    ("written", "counts", "broken"),
    [
        (9, {}, {}),
        (11, {}, {}),
        (10, {"rejected": 1}, {}),
        (10, {}, {"read": 11}),
        (10, {}, {"read": 9, "filtered": -1}),
    ],
    ids=["too few", "too many", "no such reject", "does not close", "negative"],
)
def test_nothing_is_sent_when_the_ledger_does_not_tell_of_these_rows(
    case: TopicCase, written: int, counts: dict[str, int], broken: dict[str, int]
) -> None:
    with case.sink() as sink, pytest.raises(LedgerError, match="Nothing was committed"):
        sink.commit(rows(10), case.broken(case.receipt(written, **counts), **broken), complete=True)
    assert case.messages(isolation="read_uncommitted") == []
    assert case.messages(case.commits, isolation="read_uncommitted") == []


class Failing:
    """Encodes, and fails in a later chunk, when earlier ones are on their way."""

    def __init__(self, chunks: int, error: BaseException) -> None:
        self._inner, self._left, self._error = JsonEncoder(SCHEMA, ["id"]), chunks, error

    def encode(self, table: pa.Table) -> Messages:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return self._inner.encode(table)

    def keys(self, table: pa.Table) -> pa.ChunkedArray:
        return self._inner.keys(table)


def settled(case: TopicCase, wanted: int) -> list[Any]:
    """Every message that reached the broker, as soon as there are ``wanted``."""
    deadline = time.monotonic() + 120
    while len(found := case.messages(isolation="read_uncommitted")) < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def test_nothing_half_sent_is_visible_when_the_encoder_fails_in_the_middle(case: TopicCase) -> None:
    class Slow(Failing):
        def encode(self, table: pa.Table) -> Messages:
            if self._left == 0:
                assert settled(case, 1)  # the first chunk has left the client
            return super().encode(table)

    with case.sink(encoder=Slow(1, RecordError("bad row"))) as sink, pytest.raises(RecordError, match="bad row"):
        sink.commit(rows(20_000), case.receipt(20_000), complete=True)
    assert len(case.messages(isolation="read_uncommitted")) > 0
    assert case.messages() == []
    with case.sink() as sink:
        assert (sink.progress(case.load), sink.cursor()) == (None, {})


def test_the_same_sink_can_go_on_when_a_batch_was_refused(case: TopicCase) -> None:
    with case.sink(encoder=Failing(0, RecordError("bad row"))) as sink:
        with pytest.raises(RecordError):
            sink.commit(rows(5), case.receipt(5), complete=True)
        sink._encoder = JsonEncoder(SCHEMA, ["id"])
        sink.commit(rows(5), case.receipt(5), complete=True)
    assert case.numbers() == [0, 1, 2, 3, 4]


def test_the_first_attempt_is_fenced_when_a_second_begins(case: TopicCase) -> None:
    with case.sink() as first:
        first.commit(rows(5), case.receipt(5, cursor={"page": 1}), complete=False)
        with case.sink() as second:
            with pytest.raises(ConcurrentLoadError, match=r"sink-.*@2017-03-05"):
                first.commit(rows(5, first=5), case.receipt(10), complete=True)
            second.commit(rows(5, first=5), case.receipt(10), complete=True)
        with pytest.raises(TransientError):
            first.commit(rows(5, first=5), case.receipt(10), complete=True)
    assert case.numbers() == list(range(10))


def test_the_first_attempt_is_fenced_when_a_second_begins_while_it_sends(case: TopicCase) -> None:
    inner = JsonEncoder(SCHEMA, ["id"])
    second = case.sink()

    class Overtaken(Failing):
        def encode(self, table: pa.Table) -> Messages:
            self._left -= 1
            if self._left == 0:
                assert settled(case, 1)
                second.__enter__()
            return inner.encode(table)

    with case.sink(encoder=Overtaken(2, RuntimeError())) as first, pytest.raises(ConcurrentLoadError):
        first.commit(rows(40_000), case.receipt(40_000), complete=True)
    with second:
        assert second.progress(case.load) is None
        second.commit(rows(10), case.receipt(10), complete=True)
    assert case.numbers() == list(range(10))


def test_the_newest_commit_is_found_when_another_data_sets_transaction_is_open_before_it(case: TopicCase) -> None:
    partition = newest_commits(case.client, case.name, commits_topic=case.commits).partition
    other = Producer({**case.client, "transactional.id": f"other-{case.name}", "transaction.timeout.ms": 300_000})
    other.init_transactions(120)
    with case.sink() as sink:
        other.begin_transaction()
        other.produce(case.commits, b"{}", b"other", partition)
        other.flush(120)
        sink.commit(rows(1), case.receipt(1, cursor={"page": 1}), complete=True)
    # read_committed readers stop before the open transaction: the newest commit stands behind it
    assert case.messages(case.commits) == []
    found: list[Receipt | None] = []
    reader = threading.Thread(
        target=lambda: found.append(receipt_of(case.client, case.load, commits_topic=case.commits))
    )
    reader.start()
    reader.join(2)
    assert reader.is_alive()
    other.commit_transaction(120)
    reader.join(120)
    assert found[0] is not None
    assert found[0].cursor == {"page": 1}


def test_rows_wait_for_room_when_the_clients_queue_is_full(case: TopicCase) -> None:
    case.settings["queue.buffering.max.messages"] = 10
    with case.sink() as sink:
        receipt = sink.commit(rows(2_000), case.receipt(2_000), complete=True)
    assert receipt.details["acked"] == 2_000
    assert all(numbers == sorted(numbers) for numbers in numbers_in_order(case.messages()).values())
    assert case.numbers() == list(range(2_000))


@pytest.mark.parametrize("refused_by", ["client", "broker"])
def test_the_load_fails_with_the_remedy_when_a_message_is_too_big(case: TopicCase, refused_by: str) -> None:
    if refused_by == "broker":
        case.settings["message.max.bytes"] = 5_000_000
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), ("n", pa.string())])
    noise = "".join(chr(0x100 + (number * 7919) % 0x5000) for number in range(1_000_000))
    big = pa.table({"id": ["a", "b"], "n": ["small", noise]}, schema=schema)
    with (
        case.sink(encoder=JsonEncoder(schema, ["id"])) as sink,
        pytest.raises(KafkaRefusedError, match=r"max\.message\.bytes"),
    ):
        sink.commit(big, case.receipt(2), complete=True)
    assert case.messages() == []
    with case.sink() as sink:
        assert sink.progress(case.load) is None


@pytest.mark.parametrize("missing", ["topic", "rejects_topic", "commits_topic"])
def test_the_load_fails_at_once_when_a_topic_is_missing(case: TopicCase, missing: str) -> None:
    with pytest.raises(KafkaRefusedError, match="Create the topic"):
        case.sink(**{missing: f"no-such-{case.name}"}).__enter__()


def test_the_load_fails_when_its_topic_is_deleted_while_it_sends(case: TopicCase) -> None:
    case.settings.update({"topic.metadata.propagation.max.ms": 1_000, "message.timeout.ms": 20_000})

    class Deleting(Failing):
        def encode(self, table: pa.Table) -> Messages:
            self._left -= 1
            if self._left == 0:
                assert settled(case, 1)
                case.admin.delete_topics([case.name])[case.name].result(120)
            return self._inner.encode(table)

    with (
        case.sink(encoder=Deleting(2, RuntimeError()), limit_seconds=15) as sink,
        pytest.raises((KafkaRefusedError, ConcurrentLoadError)) as caught,
    ):
        sink.commit(rows(40_000), case.receipt(40_000), complete=True)
    assert isinstance(caught.value, KafkaRefusedError)
    assert receipt_of(case.client, case.load, commits_topic=case.commits) is None


def test_a_load_says_so_when_there_is_no_broker() -> None:
    away = TopicCase("127.0.0.1:9")
    with pytest.raises(ServiceUnavailableError, match=r"Kafka at 127\.0\.0\.1:9 is not available"):
        away.sink(limit_seconds=2).__enter__()


def test_a_sink_is_refused_when_its_commits_topic_would_forget(case: TopicCase) -> None:
    name = f"{case.name}.forgets"
    case.admin.create_topics([NewTopic(name, 1, 1, config={"cleanup.policy": "delete"})])[name].result(120)
    try:
        with pytest.raises(SpecError, match=r"cleanup\.policy=delete"):
            case.sink(commits_topic=name).__enter__()
    finally:
        case.admin.delete_topics([name])[name].result(120)


def test_a_load_is_refused_when_it_was_begun_in_another_topic(case: TopicCase) -> None:
    with case.sink() as sink:
        sink.commit(rows(1), case.receipt(1), complete=False)
    with (
        case.sink(topic=case.rejected, rejects_topic=case.rejected) as sink,
        pytest.raises(TerminalError, match="was begun in"),
    ):
        sink.commit(rows(1), case.receipt(2), complete=True)


def test_one_transaction_is_refused_when_it_would_be_too_large(
    case: TopicCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyclerk.sinks.kafka_transaction.MAX_TRANSACTION_ROWS", 9)
    with case.sink() as sink, pytest.raises(SpecError, match="in parts"):
        sink.commit(rows(10), case.receipt(10), complete=True)
