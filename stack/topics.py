"""Kafka's topics as `include/kafka/topics.yaml` declares them: read strictly, made and brought up to date."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from stack.errors import StackError

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

_LIMIT_SECONDS = 60.0


def _as_kafka_writes(value: object) -> object:
    """A YAML scalar as Kafka returns it, so that it can be compared."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


class Topic(BaseModel):
    """A declared topic. `configs` are Kafka's own topic settings; what is not declared is left to the broker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")
    partitions: int = Field(ge=1)
    configs: Mapping[str, Annotated[str, BeforeValidator(_as_kafka_writes)]] = {}


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    topics: list[Topic]


def read_topics(path: Path) -> list[Topic]:
    """The topics that `path` declares.

    :raises StackError: the file is not as it should be; the message names the place.
    """
    try:
        topics = _Document.model_validate(yaml.safe_load(path.read_text())).topics
    except (yaml.YAMLError, ValidationError) as error:
        raise StackError(f"{path} does not declare topics as it should: {error}") from error
    names = [topic.name for topic in topics]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise StackError(f"{path} declares twice: {', '.join(twice)}")
    return topics


def ensure_topics(client: Mapping[str, str], topics: Sequence[Topic], *, say: Callable[[str], None]) -> None:
    """Makes the topics that are missing and sets declared settings that differ; topics of others stay as they are.

    :param client: librdkafka's settings, `bootstrap.servers` among them.
    :param say: takes a line for each change.
    :raises StackError: a topic exists with other partitions (nothing was changed then), or the broker refuses.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        _ensure(AdminClient(dict(client)), topics, say)
    except KafkaException as error:
        raise StackError(
            f"Kafka at {client['bootstrap.servers']} refuses the declared topics: {error.args[0].str()}"
        ) from error


def _ensure(admin: AdminClient, topics: Sequence[Topic], say: Callable[[str], None]) -> None:
    from confluent_kafka.admin import NewTopic

    found = admin.list_topics(timeout=_LIMIT_SECONDS).topics
    present = [topic for topic in topics if topic.name in found]
    others = [
        f"{topic.name} has {len(found[topic.name].partitions)} partitions, declared are {topic.partitions}"
        for topic in present
        if len(found[topic.name].partitions) != topic.partitions
    ]
    if others:
        raise StackError(
            f"{'; '.join(others)}. Keys would move to other partitions, so this is never changed in place: declare what there is, or "
            "copy the topic into one of another name."
        )
    missing = [topic for topic in topics if topic.name not in found]
    if missing:
        created = admin.create_topics(
            [NewTopic(topic.name, topic.partitions, config=dict(topic.configs)) for topic in missing],
            operation_timeout=_LIMIT_SECONDS,
        )
        for name, future in created.items():
            future.result(_LIMIT_SECONDS)
            say(f"topic {name} made")
    _update_configs(admin, present, say)


def _update_configs(admin: AdminClient, topics: Sequence[Topic], say: Callable[[str], None]) -> None:
    from confluent_kafka.admin import (
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    if not topics:
        return
    asked = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    answers = {resource.name: future.result() for resource, future in _described(admin, asked).items()}
    changes = []
    for topic in topics:
        current = answers[topic.name]
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in topic.configs.items()
            if name not in current or current[name].value != value
        ]
        if entries:
            changes.append(ConfigResource(ResourceType.TOPIC, topic.name, incremental_configs=entries))
            say(f"topic {topic.name}: {', '.join(f'{entry.name}={entry.value}' for entry in entries)}")
    if changes:
        for future in admin.incremental_alter_configs(changes, request_timeout=_LIMIT_SECONDS).values():
            future.result(_LIMIT_SECONDS)


def _described(admin: AdminClient, resources: Sequence[Any]) -> Mapping[Any, Any]:
    return admin.describe_configs(list(resources), request_timeout=_LIMIT_SECONDS)
