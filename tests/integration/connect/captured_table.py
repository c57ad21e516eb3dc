"""A table of a test's own with all that its capture needs, and what of it has arrived in Kafka."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import httpx
import psycopg
import pytest

from stack import processes
from stack.services import kafka
from stack.settings import LOOPBACK, ROOT, Settings

DECLARED = ROOT / "include" / "connect" / "customers-debezium.json"
LIMIT_SECONDS = 240
Isolation = Literal["read_committed", "read_uncommitted"]


def set_connections(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of airflow_settings.yaml that connectors need, for an instance of the stack."""
    stated = {
        "SHOP_DB": {
            "conn_type": "postgres",
            "host": LOOPBACK,
            "port": settings.port("POSTGRES"),
            "schema": "retail",
            "login": "retail",
            "password": settings.secret("RETAIL_DB_PASSWORD"),
        },
        "CONNECT_DEFAULT": {
            "conn_type": "http",
            "host": LOOPBACK,
            "port": settings.port("CONNECT"),
            "extra": {"secrets_folder": str(settings.connect_secrets)},
        },
        "SCHEMA_REGISTRY_DEFAULT": {
            "conn_type": "http",
            "host": LOOPBACK,
            "port": settings.port("REGISTRY"),
            "extra": {"path": "/apis/ccompat/v7"},
        },
    }
    for name, connection in stated.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))


@dataclass(frozen=True, slots=True)
class CapturedTable:
    """:param name: of the schema, slot, publication, topic prefix and connector."""

    name: str
    bootstrap: str
    registry_url: str
    database: psycopg.Connection

    @property
    def topic(self) -> str:
        return f"{self.name}.{self.name}.customers"

    @classmethod
    @contextmanager
    def made(cls, settings: Settings, connect_url: str, registry_url: str) -> Iterator[CapturedTable]:
        """Five customers, and everything but the connector; whatever a test leaves of it is removed."""
        name = f"cdc_{uuid4().hex[:12]}"
        with psycopg.connect(
            host=LOOPBACK,
            port=settings.port("POSTGRES"),
            dbname="retail",
            user="retail",
            password=settings.secret("RETAIL_DB_PASSWORD"),
            autocommit=True,
        ) as database:
            database.execute(f"""
                CREATE SCHEMA {name};
                CREATE TABLE {name}.customers (household_id bigint PRIMARY KEY, income text, updated_at timestamptz NOT NULL);
                INSERT INTO {name}.customers SELECT n, 'first', now() FROM generate_series(1, 5) n;
                CREATE TABLE {name}.heartbeat (id int PRIMARY KEY, beat_at timestamptz NOT NULL);
                INSERT INTO {name}.heartbeat VALUES (1, now());
            """)
            made = cls(name, kafka.bootstrap(settings), registry_url, database)
            made.publish()
            try:
                yield made
            finally:
                made.remove(connect_url)

    def publish(self) -> None:
        self.database.execute(f"CREATE PUBLICATION {self.name} FOR TABLE {self.name}.customers, {self.name}.heartbeat")

    def config(self, folder: Path, **other: str | None) -> str:
        """The path of the declared configuration, pointed at this table; ``other`` settings are set or (None) left out."""
        settings = json.loads(DECLARED.read_text())
        settings |= {
            "slot.name": self.name,
            "publication.name": self.name,
            "topic.prefix": self.name,
            "table.include.list": f"{self.name}.customers",
            "heartbeat.interval.ms": "1000",
            "heartbeat.action.query": f"UPDATE {self.name}.heartbeat SET beat_at = now() WHERE id = 1",
        }
        for key, value in other.items():
            settings[key.replace("__", ".")] = value
        path = folder / f"{uuid4().hex}.json"
        path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
        return str(path)

    def slots(self) -> int:
        row = self.database.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = %s", [self.name]
        ).fetchone()
        assert row is not None
        return row[0]

    def events(self, count: int, *, isolation: Isolation = "read_committed") -> list[tuple[int, dict[str, Any] | None]]:
        """At least ``count`` messages as (key, value), those of one key in their order; a tombstone's value is None.

        It waits until they are there, then until the end of each partition, so that a doubled one would be seen.
        """
        from confluent_kafka import Consumer, KafkaError, TopicPartition
        from confluent_kafka.schema_registry import SchemaRegistryClient
        from confluent_kafka.schema_registry.avro import AvroDeserializer
        from confluent_kafka.serialization import MessageField, SerializationContext

        decode = AvroDeserializer(SchemaRegistryClient({"url": self.registry_url}))
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": f"{self.name}-{uuid4().hex}",
                "isolation.level": isolation,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        assert processes.wait_until(lambda: self._partitions(consumer) == 3, LIMIT_SECONDS, poll_seconds=0.5)
        consumer.assign([TopicPartition(self.topic, number, 0) for number in range(3)])
        found, ended = [], set()
        deadline = time.monotonic() + LIMIT_SECONDS
        while (len(found) < count or len(ended) < 3) and time.monotonic() < deadline:
            for message in consumer.consume(500, 1):
                if error := message.error():
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    ended.add(message.partition())
                    continue
                ended.discard(message.partition())
                key, value = (
                    decode(content, SerializationContext(self.topic, part)) if content else None
                    for content, part in ((message.key(), MessageField.KEY), (message.value(), MessageField.VALUE))
                )
                found.append((key["household_id"], value))
        consumer.close()
        return found

    def written(self) -> int:
        """Offsets used in the topic: messages, committed or not, and the markers of transactions."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"{self.name}-look"})
        ends = [consumer.get_watermark_offsets(TopicPartition(self.topic, number), 60)[1] for number in range(3)]
        consumer.close()
        return sum(ends)

    def _partitions(self, consumer: Any) -> int:
        topic = consumer.list_topics(timeout=60).topics.get(self.topic)
        return len(topic.partitions) if topic else 0

    def remove(self, connect_url: str) -> None:
        with httpx.Client(base_url=connect_url, trust_env=False, timeout=100) as client:
            assert processes.wait_until(
                lambda: client.delete(f"/connectors/{self.name}").status_code in (204, 404), LIMIT_SECONDS
            )
        drop = (
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
        )
        assert processes.wait_until(
            lambda: self.database.execute(drop, [self.name]) and not self.slots(), LIMIT_SECONDS
        )
        self.database.execute(f"DROP PUBLICATION IF EXISTS {self.name}")
        self.database.execute("SET client_min_messages = warning")
        self.database.execute(f"DROP SCHEMA {self.name} CASCADE")
        self._remove_topics()

    def _remove_topics(self) -> None:
        from confluent_kafka.admin import AdminClient
        from confluent_kafka.schema_registry import SchemaRegistryClient

        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        topics = [topic for topic in admin.list_topics(timeout=60).topics if self.name in topic]
        for future in (admin.delete_topics(topics) if topics else {}).values():
            future.result(60)
        registry = SchemaRegistryClient({"url": self.registry_url})
        for subject in registry.get_subjects():
            if self.name in subject:
                registry.delete_subject(subject)


def operations(events: list[tuple[int, dict[str, Any] | None]]) -> dict[int, list[str]]:
    """What happened to each key, in order: ``r``, ``c``, ``u``, ``d``, and ``-`` for a tombstone."""
    found: dict[int, list[str]] = {}
    for key, value in events:
        found.setdefault(key, []).append("-" if value is None else value["__op"])
    return found


def doubled(events: list[tuple[int, dict[str, Any] | None]]) -> list[Any]:
    """Changes (key and position in the log) that arrived more than once."""
    counts = Counter((key, value["__lsn"]) for key, value in events if value is not None)
    return [change for change, count in counts.items() if count > 1]
