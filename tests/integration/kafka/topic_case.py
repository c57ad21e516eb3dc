"""A topic of one's own with all that a sink needs, and an independent look into it."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
from confluent_kafka import Consumer, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from stack.processes import wait_until
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.sinks.kafka_encoding import JsonEncoder
from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink

SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64())])
WINDOW = "2017-03-05"
PARTITIONS = 3
_MARKERS_LIMIT_SECONDS = 5
"""The broker answers a commit before it has written its markers. Where a test leaves a transaction open, they do not come."""


def rows(count: int, *, first: int = 0) -> pa.Table:
    numbers = range(first, first + count)
    return pa.table({"id": [f"k{number}" for number in numbers], "n": list(numbers)}, schema=SCHEMA)


@dataclass(frozen=True)
class Message:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass
class TopicCase:
    """:param name: of the topic and the data set."""

    bootstrap: str
    name: str = field(default_factory=lambda: f"sink-{uuid.uuid4().hex[:12]}")
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def client(self) -> dict[str, Any]:
        return {"bootstrap.servers": self.bootstrap, **self.settings}

    @property
    def commits(self) -> str:
        return f"{self.name}.commits"

    @property
    def rejected(self) -> str:
        return f"{self.name}.rejected"

    @property
    def load(self) -> str:
        return f"{self.name}@{WINDOW}"

    def create(self, **config: str) -> None:
        new = [
            NewTopic(self.name, PARTITIONS, 1, config=config),
            NewTopic(self.rejected, 1, 1),
            NewTopic(self.commits, 2, 1, config={"cleanup.policy": "compact"}),
        ]
        for future in self.admin.create_topics(new, operation_timeout=120).values():
            future.result(120)
        until_led(self.admin, {each.topic: each.num_partitions for each in new})

    def delete(self) -> None:
        admin = self.admin
        present = [name for name in (self.name, self.rejected, self.commits) if name in admin.list_topics().topics]
        for future in admin.delete_topics(present).values() if present else ():
            future.result(120)

    @cached_property
    def admin(self) -> AdminClient:
        # kept: without a reference to it, its futures are cancelled
        return AdminClient({"bootstrap.servers": self.bootstrap})

    def sink(self, **options: Any) -> KafkaTransactionSink:
        return KafkaTransactionSink(
            **{
                "client": self.client,
                "topic": self.name,
                "dataset": self.name,
                "encoder": JsonEncoder(SCHEMA, ["id"]),
                "commits_topic": self.commits,
                **options,
            }
        )

    def receipt(
        self, written: int, *, window: str = WINDOW, cursor: Mapping[str, Any] | None = None, **counts: int
    ) -> Receipt:
        """A receipt whose ledger closes."""
        ledger = Ledger(read=written + sum(counts.values()), written=written, **counts)
        return Receipt(dataset=self.name, window=window, ledger=ledger, location="", cursor=dict(cursor or {}))

    def broken(self, receipt: Receipt, **counts: int) -> Receipt:
        return replace(receipt, ledger=replace(receipt.ledger, **counts))

    def messages(self, topic: str | None = None, *, isolation: str = "read_committed") -> list[Message]:
        return read_topic(self.bootstrap, topic or self.name, isolation=isolation)

    def numbers(self, **options: Any) -> list[int]:
        """``n`` of every row, sorted."""
        return sorted(
            json.loads(message.value)["n"] for message in self.messages(**options) if message.value is not None
        )


def until_led(admin: AdminClient, partitions: Mapping[str, int]) -> None:
    """Wait until the broker serves every partition: right after their creation it does not know them yet."""
    wanted = {
        TopicPartition(topic, each): OffsetSpec.latest() for topic, count in partitions.items() for each in range(count)
    }
    deadline = time.monotonic() + 120
    while any(answer.exception(120) for answer in admin.list_offsets(wanted).values()):
        assert time.monotonic() < deadline, f"{list(partitions)} have no leader"
        time.sleep(0.05)


def read_topic(bootstrap: str, topic: str, *, isolation: str = "read_committed") -> list[Message]:
    """Every message up to each partition's end; of committed ones, those of a commit that was answered just now too."""
    if isolation == "read_committed":
        wait_until(lambda: _ends(bootstrap, topic, True) == _ends(bootstrap, topic, False), _MARKERS_LIMIT_SECONDS)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"look-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
        consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        found, ended = [], set()
        while len(ended) < len(partitions):
            message = consumer.poll(60)
            assert message is not None, f"{topic} was not read within a minute"
            if message.error() is None:
                found.append(Message(topic, message.partition(), message.offset(), message.key(), message.value()))
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                ended.add(message.partition())
        return found
    finally:
        consumer.close()


def _ends(bootstrap: str, topic: str, committed: bool) -> dict[int, int]:
    """Partition → where a reader of committed messages, or of all, has to stop now."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    partitions = admin.list_topics(topic, timeout=60).topics[topic].partitions
    asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in partitions}
    answers = admin.list_offsets(asked, isolation_level=level)
    return {key.partition: answer.result(60).offset for key, answer in answers.items()}


def bootstrap_servers() -> str:
    return f"127.0.0.1:{os.environ.get('TALLYCLERK_KAFKA_PORT', '9092')}"


def registry_url() -> str:
    return f"http://127.0.0.1:{os.environ.get('TALLYCLERK_REGISTRY_PORT', '8181')}/apis/ccompat/v7"


def numbers_in_order(messages: Sequence[Message]) -> dict[int, list[int]]:
    """``n`` of each partition's rows, by offset."""
    found: dict[int, list[int]] = {}
    for message in messages:
        found.setdefault(message.partition, []).append(json.loads(message.value or b"")["n"])
    return found
