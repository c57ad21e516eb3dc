"""What a topic is to the cluster: its own id, and where a consumer group stands in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tallyclerk.sinks.kafka_errors import kafka_errors

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

_LIMIT_SECONDS = 60.0


class KafkaTopics:
    """:param client: settings of the Kafka client."""

    def __init__(self, client: Mapping[str, Any]) -> None:
        self._client, self._address = client, str(client.get("bootstrap.servers", ""))

    def id_of(self, topic: str) -> str:
        """The topic's id (KIP-516): a topic that is deleted and made anew under the same name has another.

        :raises KafkaRefusedError: there is no such topic. :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka import TopicCollection

        with kafka_errors(address=self._address, what=f"the topic {topic!r}"):
            answers = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_LIMIT_SECONDS)
            return str(answers[topic].result(2 * _LIMIT_SECONDS).topic_id)

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
            answers = self._admin.alter_consumer_group_offsets([asked], request_timeout=_LIMIT_SECONDS)
            answers[group].result(2 * _LIMIT_SECONDS)

    @cached_property
    def _admin(self) -> AdminClient:
        from confluent_kafka.admin import AdminClient

        # kept: without a reference to it, its futures are cancelled
        return AdminClient(dict(self._client), logger=log)
