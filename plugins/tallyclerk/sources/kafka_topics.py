"""What a topic is to the cluster: its own id, its ends, and where a consumer group stands in it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tallyclerk.sinks.kafka_errors import kafka_errors

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

_LIMIT_SECONDS = 60.0
_UNKNOWN = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "_NOENT")
"""What the client says of partitions that are not there, or have no leader: the last one where all that were asked for are such."""


@dataclass(frozen=True, slots=True)
class PartitionEnd:
    """:param offset: of the next message, for readers that are read_committed.
    :param newest_at: the latest timestamp of its messages (UTC); None where there is none.
    """

    offset: int
    newest_at: datetime | None


class KafkaTopics:
    """May be used by several threads.

    :param client: settings of the Kafka client. :param limit_seconds: how long to wait for an answer.
    """

    def __init__(self, client: Mapping[str, Any], *, limit_seconds: float = _LIMIT_SECONDS) -> None:
        self._client, self._address = client, str(client.get("bootstrap.servers", ""))
        self._limit_seconds = limit_seconds

    def id_of(self, topic: str) -> str:
        """The topic's id (KIP-516): a topic that is deleted and made anew under the same name has another.

        :raises KafkaRefusedError: there is no such topic. :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka import TopicCollection

        with kafka_errors(address=self._address, what=f"the topic {topic!r}"):
            answers = self._admin.describe_topics(TopicCollection([topic]), request_timeout=self._limit_seconds)
            return str(answers[topic].result(2 * self._limit_seconds).topic_id)

    def ends(self, partitions: Collection[tuple[str, int]]) -> dict[tuple[str, int], PartitionEnd]:
        """Where partitions end, each (topic, number); those that do not exist, or have no leader, are left out.

        :raises KafkaRefusedError: no right to. :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
        from confluent_kafka.admin import OffsetSpec

        asked = [TopicPartition(topic, number) for topic, number in partitions]
        if not asked:
            return {}
        found = {}
        with kafka_errors(address=self._address, what="the ends of topics"):
            latest, newest = (
                self._admin.list_offsets(
                    dict.fromkeys(asked, spec),
                    isolation_level=IsolationLevel.READ_COMMITTED,
                    request_timeout=self._limit_seconds,
                )
                for spec in (OffsetSpec.latest(), OffsetSpec.max_timestamp())
            )
            for each in asked:
                try:
                    offset, told = (answers[each].result(2 * self._limit_seconds) for answers in (latest, newest))
                except KafkaException as error:
                    if error.args[0].name() not in _UNKNOWN:
                        raise
                    continue
                newest_at = datetime.fromtimestamp(told.timestamp / 1000, UTC) if told.timestamp > 0 else None
                found[each.topic, each.partition] = PartitionEnd(offset.offset, newest_at)
        return found

    def mirror(self, group: str, topic: str, position: Mapping[int, int]) -> None:
        """Show a position as that of a consumer group without members, for the tools that tell its lag.

        :param position: partition → next offset.
        :raises KafkaRefusedError: no right to. :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        if not position:
            return
        asked = ConsumerGroupTopicPartitions(
            group, [TopicPartition(topic, each, offset) for each, offset in sorted(position.items())]
        )
        with kafka_errors(address=self._address, what=f"the offsets of the group {group!r}"):
            answers = self._admin.alter_consumer_group_offsets([asked], request_timeout=self._limit_seconds)
            answers[group].result(2 * self._limit_seconds)

    @cached_property
    def _admin(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        # kept: without a reference to it, its futures are cancelled
        return AdminClient(dict(self._client), logger=log)
