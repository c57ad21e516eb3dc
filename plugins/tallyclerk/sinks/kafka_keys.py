"""Which keys a load has sent, read back from the topic: the one account of it that a dead attempt leaves behind.

The keys are not kept in the commit records: those of a large load would outgrow a message, and each transaction would carry
them all again. They stand in the topic already, and are read only after a crash or between two polls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tallyclerk.core.offsets import Offsets
from tallyclerk.exceptions import SentRowsDeletedError, ServiceUnavailableError
from tallyclerk.sinks.kafka_errors import SERVICE, classify, kafka_errors

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient, OffsetSpec

log = logging.getLogger(__name__)

_LIMIT_SECONDS = 120.0
_MESSAGES_AT_ONCE = 5000


def topic_ends(client: Mapping[str, Any], topic: str) -> dict[int, int]:
    """Partition → the offset that the next message will have.

    :raises ServiceUnavailableError: Kafka is away.
    """
    from confluent_kafka.admin import AdminClient, OffsetSpec

    address = str(client["bootstrap.servers"])
    with kafka_errors(address=address, what=f"reading the topic {topic!r}"):
        admin = AdminClient(dict(client), logger=log)
        partitions = admin.list_topics(topic, timeout=_LIMIT_SECONDS).topics[topic].partitions
        return _offsets(admin, topic, partitions, OffsetSpec.latest())


def sent_keys(client: Mapping[str, Any], segments: Iterable[Offsets]) -> set[str]:
    """The keys (UTF-8) of the committed messages in some ranges of offsets.

    :raises SentRowsDeletedError: the topic does not hold them any more, so that what was sent cannot be known.
    :raises ServiceUnavailableError: Kafka is away, or a transaction in front of a range's end stays open.
    """
    keys: set[str] = set()
    for segment in segments:
        if not segment:
            continue
        with kafka_errors(address=str(client["bootstrap.servers"]), what=f"reading the topic {segment.topic!r}"):
            _require_kept(client, segment)
            consumer = _consumer(client)
            try:
                keys.update(_keys(consumer, segment, str(client["bootstrap.servers"])))
            finally:
                consumer.close()
    return keys


def _consumer(client: Mapping[str, Any]) -> Consumer:
    from confluent_kafka import Consumer

    return Consumer(
        {
            **client,
            "group.id": "tallyclerk.keys",  # asked for, never used: offsets are neither read nor stored
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        },
        logger=log,
    )


def _require_kept(client: Mapping[str, Any], segment: Offsets) -> None:
    """:raises SentRowsDeletedError: the topic has deleted a part of the range."""
    from confluent_kafka.admin import AdminClient, OffsetSpec

    starts = {partition: start for partition, start, _ in segment}
    firsts = _offsets(AdminClient(dict(client), logger=log), segment.topic, starts, OffsetSpec.earliest())
    for partition, start in starts.items():
        if firsts[partition] > start:
            raise SentRowsDeletedError(topic=segment.topic, partition=partition, first=firsts[partition], start=start)


def _offsets(admin: AdminClient, topic: str, partitions: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
    """Partition → offset; those of transactions that are not committed count as well."""
    from confluent_kafka import IsolationLevel, TopicPartition

    answers = admin.list_offsets(
        {TopicPartition(topic, partition): spec for partition in partitions},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=_LIMIT_SECONDS,
    )
    return {asked.partition: answer.result().offset for asked, answer in answers.items()}


def _keys(consumer: Consumer, segment: Offsets, address: str) -> Iterator[str]:
    from confluent_kafka import KafkaError, TopicPartition

    ends = {partition: end for partition, _, end in segment}
    consumer.assign([TopicPartition(segment.topic, partition, start) for partition, start, _ in segment])
    deadline = time.monotonic() + _LIMIT_SECONDS
    while ends:
        for message in consumer.consume(_MESSAGES_AT_ONCE, timeout=0.2):
            error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise classify(error, address=address, what=f"reading the topic {segment.topic!r}")
            if error is None and offset < ends.get(partition, 0):
                yield (message.key() or b"").decode()
            # the end is past markers and aborted messages, which nobody is shown
            if (offset if error is not None else offset + 1) >= ends.get(partition, 0):
                ends.pop(partition, None)
        if ends and time.monotonic() > deadline:
            raise ServiceUnavailableError(
                service=SERVICE,
                address=address,
                cause=f"{segment.topic} cannot be read up to {ends}: a transaction stays open",
            )
