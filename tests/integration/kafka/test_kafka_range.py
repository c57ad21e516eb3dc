"""Exactly a range of a real topic, as often as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from stack import processes
from tallyclerk.sources.kafka_range import KafkaRange
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers, rows

pytestmark = pytest.mark.integration
ROWS = 300


@pytest.fixture
def case() -> Iterator[TopicCase]:
    made = TopicCase(bootstrap_servers())
    made.create()
    yield made
    made.delete()


def test_a_reading_begins_with_the_first_message_at_or_after_a_time() -> None:
    case = TopicCase(bootstrap_servers())
    case.create(**{"message.timestamp.type": "LogAppendTime"})
    try:
        producer = Producer({**case.client, "transactional.id": case.name})
        producer.init_transactions(60)
        for number in range(4):
            producer.begin_transaction()
            producer.produce(case.name, value=str(number), partition=0)
            assert producer.flush(60) == 0
            if number < 3:  # the last one stays open
                producer.commit_transaction(60)
                assert processes.wait_until(lambda sent=number: len(case.messages()) == sent + 1, 120)
        with KafkaRange(client=case.client, topic=case.name, stall_limit_seconds=60) as reader:

            def read(start: dict[int, int]) -> dict[bytes | None, int]:
                offsets, _ = reader.plan(start)
                batches = list(reader.read(offsets))
                return {
                    value: int(at)
                    for batch in batches
                    for value, at in zip(batch.values, batch.timestamps, strict=True)
                }

            every = read({})
            assert list(every) == [b"0", b"1", b"2"]
            for at in (0, *every.values()):
                assert read(reader.since(at)) == {value: sent for value, sent in every.items() if sent >= at}
            after = reader.since(max(every.values()) + 1)
            assert (set(after), read(after)) == ({0, 1, 2}, {})
        producer.abort_transaction(60)
    finally:
        case.delete()


def test_all_of_a_range_comes_again_when_one_reader_reads_it_twice(case: TopicCase) -> None:
    with case.sink() as sink:
        sink.commit(rows(ROWS), case.receipt(ROWS), complete=True)
    assert processes.wait_until(lambda: len(case.messages()) == ROWS, 120)
    with KafkaRange(client=case.client, topic=case.name, stall_limit_seconds=60) as reader:
        offsets, _ = reader.plan({})
        assert [sum(len(batch.values) for batch in reader.read(offsets)) for _ in range(2)] == [ROWS, ROWS]
