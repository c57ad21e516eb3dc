"""A topic and a keyspace of a test's own for the drain, with the speed layer's contract, and what an independent reader finds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from cassandra.cluster import Session
from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from deltalake import DeltaTable

from stack.processes import wait_until
from stack.settings import LOOPBACK, ROOT, load_settings
from tests.integration.kafka.topic_case import bootstrap_servers, read_topic, until_led

PARTITIONS = 3
DAY = "2026-03-10"
Key = tuple[str, date]
Kpi = tuple[Decimal, int, Decimal]


@dataclass
class DrainCase:
    """:param folder: on this machine, for the contract. :param cassandra_port: of the node with the keyspace."""

    folder: str
    cassandra_port: int
    name: str = field(default_factory=lambda: f"drain_{uuid.uuid4().hex[:12]}")

    @property
    def contract(self) -> str:
        """The speed layer's, under the test's name: of the topic, the data set, the table and the consumer group."""
        path = Path(self.folder, f"{self.name}.odcs.yaml")
        if not path.exists():
            own = (ROOT / "include/contracts/customer_kpis_speed.odcs.yaml").read_text()
            path.write_text(
                own.replace("customer_kpis_speed", self.name).replace("keyspace: pipeline", f"keyspace: {self.name}")
            )
        return str(path)

    @property
    def group(self) -> str:
        return f"tallyclerk.{self.name}.{self.name}"

    @property
    def lake(self) -> str:
        return f"/tmp/tests/drain/{self.name}"

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": bootstrap_servers()})

    # --- the topic --------------------------------------------------------------------------------------------------

    def create(self, **config: str) -> None:
        config = config or {"cleanup.policy": "compact", "message.timestamp.type": "LogAppendTime"}
        for future in self.admin.create_topics([NewTopic(self.name, PARTITIONS, 1, config=config)]).values():
            future.result(120)
        until_led(self.admin, {self.name: PARTITIONS})

    def delete(self) -> None:
        for future in self.admin.delete_topics([self.name]).values():
            future.result(120)
        assert wait_until(lambda: self.name not in self.admin.list_topics(timeout=60).topics, 120)

    def delete_group(self) -> None:
        if any(group.group_id == self.group for group in self.admin.list_consumer_groups().result(60).valid):
            self.admin.delete_consumer_groups([self.group])[self.group].result(60)

    def send(self, messages: Iterable[tuple[bytes, bytes | None]], *, partition: int = -1) -> None:
        """One transaction; ends when its markers are written."""
        producer = Producer({"bootstrap.servers": bootstrap_servers(), "transactional.id": f"{self.name}.writer"})
        producer.init_transactions(120)
        producer.begin_transaction()
        for key, value in messages:
            while True:
                try:
                    producer.produce(self.name, value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        assert producer.flush(120) == 0
        producer.commit_transaction(120)
        assert wait_until(
            lambda: self.ends(IsolationLevel.READ_COMMITTED) == self.ends(IsolationLevel.READ_UNCOMMITTED), 120
        )

    def ends(self, level: IsolationLevel = IsolationLevel.READ_COMMITTED) -> dict[int, int]:
        asked = {TopicPartition(self.name, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
        answers = self.admin.list_offsets(asked, isolation_level=level, request_timeout=60)
        return {each.partition: answers[each].result().offset for each in asked}

    def group_position(self) -> dict[int, int]:
        asked = [ConsumerGroupTopicPartitions(self.group)]
        found = self.admin.list_consumer_group_offsets(asked)[self.group].result(60).topic_partitions
        return {each.partition: each.offset for each in found}

    def newest(self) -> dict[Key, Kpi]:
        """The newest value of each key, message by message; what is no KPI does not count."""
        found: dict[Key, Kpi] = {}
        for message in sorted(read_topic(bootstrap_servers(), self.name), key=lambda each: each.offset):
            own = json.loads(message.key)
            key = (own["customer_id"], date.fromisoformat(own["date"]))
            if message.value is None:
                found.pop(key, None)
            elif message.value != BROKEN:
                row = json.loads(message.value, parse_float=Decimal)
                found[key] = (row["total_amount"], row["transaction_count"], row["avg_transaction_value"])
        return found

    # --- the table --------------------------------------------------------------------------------------------------

    def task(self, **options: Any) -> Any:
        from tallyclerk.transfers.kafka_to_cassandra import KafkaToCassandraOperator

        return KafkaToCassandraOperator(
            **{"task_id": "drain", "contract": self.contract, "quarantine": f"{self.lake}/quarantine", **options}
        )

    def rows(self, session: Session) -> dict[Key, Kpi]:
        found = session.execute(
            f"SELECT customer_id, date, total_amount, transaction_count, avg_transaction_value FROM {self.name}.{self.name}"
        )
        return {(row[0], row[1].date()): tuple(row[2:]) for row in found}

    def position(self, session: Session) -> Any:
        return session.execute(f"SELECT * FROM {self.name}.tallyclerk_drains").one()

    def quarantined(self) -> list[tuple[str, str, str]]:
        """Reason, column and raw text."""
        table = DeltaTable(f"hdfs://{LOOPBACK}:{load_settings().port('HDFS')}{self.lake}/quarantine.stream")
        rows = table.to_pyarrow_table(columns=["reason", "column", "raw_text"]).to_pylist()
        return sorted(tuple(row.values()) for row in rows)


BROKEN = b'{"customer_id": "1"'


def key_of(customer: int, day: str = DAY) -> bytes:
    return json.dumps({"customer_id": str(customer), "date": day}).encode()


def kpi(customer: int, cents: int, *, day: str = DAY, count: int = 2) -> tuple[bytes, bytes]:
    """A message as Flink writes it: decimals are numbers."""
    value = (
        f'{{"customer_id":"{customer}","date":"{day}","total_amount":{Decimal(cents) / 100:.2f},'
        f'"transaction_count":{count},"avg_transaction_value":{Decimal(cents) / 200:.2f}}}'
    )
    return key_of(customer, day), value.encode()


def connections(cassandra_port: int) -> dict[str, str]:
    """What Airflow would look up, as environment variables."""
    stated: Mapping[str, Mapping[str, Any]] = {
        "kafka_default": {"conn_type": "kafka", "extra": {"bootstrap.servers": bootstrap_servers()}},
        "cassandra_default": {"conn_type": "cassandra", "host": LOOPBACK, "port": cassandra_port},
        "hdfs_default": {
            "conn_type": "hdfs",
            "host": LOOPBACK,
            "extra": {"rpc_port": load_settings().port("HDFS")},
        },
    }
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(facts) for name, facts in stated.items()}
