"""kill -9 of the broker while a range is read: the reader waits for it, and misses or repeats nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from confluent_kafka import Producer

from stack.processes import wait_until
from stack.supervisor import Supervisor
from tallyclerk.core.offsets import Offsets
from tallyclerk.exceptions import ServiceUnavailableError
from tallyclerk.sources import kafka_batches, kafka_range
from tallyclerk.sources.kafka_batches import MessageBatch
from tallyclerk.sources.kafka_range import KafkaRange
from tests.faults.test_kafka_load_kill import KAFKA, broker, own_case
from tests.integration.kafka.topic_case import TopicCase
from tests.second_stack import kill

__all__ = ["broker", "own_case"]  # fixtures
pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]
MESSAGES = 30_000
SMALL = {"queued.max.messages.kbytes": 256, "queued.min.messages": 500, "fetch.message.max.bytes": 65_536}
"""So that most messages are still at the broker when it dies."""


@pytest.fixture
def filled(own_case: TopicCase, monkeypatch: pytest.MonkeyPatch) -> TopicCase:
    """A topic of numbered messages."""
    producer = Producer({**own_case.client, "transactional.id": own_case.name})
    producer.init_transactions(120)
    producer.begin_transaction()
    for number in range(MESSAGES):
        producer.produce(own_case.name, value=f"{number:06d}".encode() * 50, partition=number % 3)
        producer.poll(0)
    producer.commit_transaction(120)
    with KafkaRange(client=own_case.client, topic=own_case.name) as reader:
        # markers are written a moment after the commit was answered
        assert wait_until(lambda: all(end == MESSAGES // 3 + 1 for _, end in reader.bounds().values()), 120)
    monkeypatch.setattr(kafka_batches, "BATCH_MESSAGES", 1_000)
    monkeypatch.setattr(kafka_range, "_FETCH_MESSAGES", 500)
    return own_case


def numbers(batches: Iterator[MessageBatch]) -> list[int]:
    return [int(value[:6]) for batch in batches for value in batch.values if value is not None]


def test_each_message_is_read_once_when_the_broker_is_killed_and_comes_back(
    broker: Supervisor, filled: TopicCase
) -> None:
    restarting = threading.Thread(target=broker.up, args=([KAFKA],))
    with KafkaRange(client={**filled.client, **SMALL}, topic=filled.name, stall_limit_seconds=300) as reader:
        offsets, _ = reader.plan({})
        batches = reader.read(offsets)
        found = numbers(iter([next(batches)]))
        kill(broker, KAFKA)
        restarting.start()
        found += numbers(batches)
    restarting.join()
    assert len(found) == MESSAGES
    assert sorted(found) == list(range(MESSAGES))
    for partition in range(3):
        own = [number for number in found if number % 3 == partition]
        assert own == sorted(own)


def test_the_load_is_to_be_retried_when_the_broker_stays_away(broker: Supervisor, filled: TopicCase) -> None:
    with KafkaRange(client={**filled.client, **SMALL}, topic=filled.name, stall_limit_seconds=3) as reader:
        offsets, _ = reader.plan({})
        batches = reader.read(Offsets(filled.name, offsets.ranges))
        next(batches)
        kill(broker, KAFKA)
        with pytest.raises(ServiceUnavailableError, match="Kafka at 127"):
            numbers(batches)
