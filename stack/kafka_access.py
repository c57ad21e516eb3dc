"""What our user may do on a Kafka that asks who is there. Everything else is refused, and so is everybody else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from stack.errors import StackError

if TYPE_CHECKING:
    from confluent_kafka.admin import AclBinding

CONNECT_PREFIXES = ("_connect_", "shop_cdc.", "__debezium-heartbeat.", "jdbc.")
"""Topics that the Connect worker makes itself: its own, and those of the connectors in `include/connect`."""
_LIMIT_SECONDS = 60.0


def grant_access(client: Mapping[str, str], user: str, topics: Iterable[str]) -> None:
    """Lets `user` read and write `topics`, and what Connect needs; idempotent. What was granted before stays.

    :param client: librdkafka's settings, of a user that may grant.
    :raises StackError: the broker refuses.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        # a client that is no longer held takes its requests with it
        admin = AdminClient(dict(client))
        for future in admin.create_acls(list(_grants(user, topics)), request_timeout=_LIMIT_SECONDS).values():
            future.result(_LIMIT_SECONDS)
    except KafkaException as error:
        raise StackError(
            f"Kafka at {client['bootstrap.servers']} refuses to grant access to {user}: {error.args[0].str()}"
        ) from error


def _grants(user: str, topics: Iterable[str]) -> Iterator[AclBinding]:
    from confluent_kafka.admin import (
        AclBinding,
        AclOperation,
        AclPermissionType,
        ResourcePatternType,
        ResourceType,
    )

    def allow(
        kind: ResourceType,
        name: str,
        *operations: AclOperation,
        pattern: ResourcePatternType = ResourcePatternType.LITERAL,
    ) -> Iterator[AclBinding]:
        for each in operations:
            yield AclBinding(kind, name, pattern, f"User:{user}", "*", each, AclPermissionType.ALLOW)

    for topic in topics:
        yield from allow(
            ResourceType.TOPIC, topic, AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE_CONFIGS
        )
    for prefix in CONNECT_PREFIXES:
        yield from allow(ResourceType.TOPIC, prefix, AclOperation.ALL, pattern=ResourcePatternType.PREFIXED)
    # named after data sets, connectors and Flink jobs, which are made without asking anybody here
    yield from allow(ResourceType.GROUP, "*", AclOperation.READ)
    yield from allow(ResourceType.TRANSACTIONAL_ID, "*", AclOperation.WRITE)
