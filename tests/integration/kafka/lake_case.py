"""A topic and a table of a test's own, and one load of the one into the other.

Run as a program: ``lake_case.py '{"case": {...}, "task": {...}, "stop": "after staging"}'`` loads once, and kills itself there.
"""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import sys
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec
from deltalake import DeltaTable

from stack.processes import wait_until
from tests.integration.kafka.topic_case import Message, bootstrap_servers, read_topic, registry_url

PARTITIONS = 3
DAY = datetime(2026, 3, 10, 12, tzinfo=UTC)
AVRO = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}]},
        {"name": "note", "type": ["null", "string"]},
        {"name": "happened_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}
_CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: NAME
name: NAME
version: 1.0.0
status: active
description: {purpose: A test's rows.}
schema:
  - name: NAME
    logicalType: object
    physicalType: topic
    customProperties:
      - {property: namespace, value: tests.kafka}
      - {property: kafka, value: {topic: NAME, key: [id]}}
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)", required: false, logicalTypeOptions: {minimum: -1000}}
      - {name: note, logicalType: string, physicalType: text, required: false}
      - {name: happened_at, logicalType: timestamp, physicalType: timestamptz, required: true, logicalTypeOptions: {timezone: true, defaultTimezone: Etc/UTC}}
      - {name: event_day, logicalType: date, physicalType: date, required: true, transformSourceObjects: [happened_at], transformLogic: "CAST(happened_at AT TIME ZONE 'UTC' AS DATE)"}
"""


@dataclass
class LakeCase:
    """:param folder: on this machine, for the contract. :param lake: on HDFS."""

    folder: str
    lake: str
    name: str = field(default_factory=lambda: f"lake_{uuid.uuid4().hex[:12]}")

    # --- around it --------------------------------------------------------------------------------------------------

    @property
    def contract(self) -> str:
        path = Path(self.folder, f"{self.name}.odcs.yaml")
        if not path.exists():
            path.write_text(_CONTRACT.replace("NAME", self.name))
        return str(path)

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": bootstrap_servers()})

    def create(self, *names: str) -> None:
        # the messages' own times are long ago, and retention goes by them
        config = {"retention.ms": "-1"}
        new = [NewTopic(name, PARTITIONS, 1, config=config) for name in (names or (self.name,))]
        for future in self.admin.create_topics(new, operation_timeout=120).values():
            future.result(120)

    def delete(self) -> None:
        mine = [topic for topic in self.admin.list_topics(timeout=120).topics if topic.startswith(self.name)]
        for future in self.admin.delete_topics(mine).values() if mine else ():
            future.result(120)

    def register(self, schema: dict[str, Any] = AVRO) -> int:
        from tallyclerk.sinks.schema_registry import SchemaRegistry

        registry = SchemaRegistry(registry_url())
        try:
            return registry.register(f"{self.name}-value", schema)
        finally:
            registry.close()

    # --- the topic --------------------------------------------------------------------------------------------------

    def producer(self) -> Producer:
        """Of one transaction after the other; what it begins must be ended."""
        made = Producer(
            {"bootstrap.servers": bootstrap_servers(), "transactional.id": f"{self.name}.{uuid.uuid4().hex}"}
        )
        made.init_transactions(120)
        return made

    def send(
        self, values: Iterable[bytes | None], *, commit: bool | None = True, partition: int | None = None,
        at: datetime = DAY, topic: str | None = None, producer: Producer | None = None,
    ) -> Producer:  # fmt: skip
        """One transaction, its messages over all partitions in turn; ``commit=None`` leaves it open."""
        producer = producer or self.producer()
        producer.begin_transaction()
        for number, value in enumerate(values):
            producer.produce(
                topic or self.name, value=value, key=b"k", timestamp=int(at.timestamp() * 1000),
                partition=number % PARTITIONS if partition is None else partition,
            )  # fmt: skip
        assert producer.flush(120) == 0
        if commit is not None:
            (producer.commit_transaction if commit else producer.abort_transaction)(120)
            self.settle(topic or self.name)
        return producer

    def settle(self, topic: str) -> None:
        """Wait until the markers of ended transactions are written, which is after the commit was answered."""
        asked = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}

        def ends(level: IsolationLevel) -> list[int]:
            answers = self.admin.list_offsets(asked, isolation_level=level, request_timeout=60)
            return [answers[each].result().offset for each in asked]

        assert wait_until(lambda: ends(IsolationLevel.READ_COMMITTED) == ends(IsolationLevel.READ_UNCOMMITTED), 120)

    def messages(self) -> list[Message]:
        """What a read_committed consumer sees."""
        return read_topic(bootstrap_servers(), self.name)

    # --- the table --------------------------------------------------------------------------------------------------

    def task(self, **options: Any) -> Any:
        from tallyclerk.transfers.kafka_to_hdfs import KafkaToHdfsOperator

        return KafkaToHdfsOperator(
            **{
                "task_id": "load", "contract": self.contract, "target": f"{self.lake}/rows", "bounded_by": "stream",
                "quarantine": f"{self.lake}/quarantine", "commits_topic": f"{self.name}.commits", **options,
            }
        )  # fmt: skip

    def rows(self, table: str = "rows") -> list[dict[str, Any]]:
        return DeltaTable(self.uri(table)).to_pyarrow_table().to_pylist()

    def ids(self) -> list[int]:
        return sorted(row["id"] for row in self.rows())

    def uri(self, table: str) -> str:
        return f"{lake_root()}{self.lake}/{table}"


def lake_root() -> str:
    from stack.settings import load_settings

    return f"hdfs://127.0.0.1:{load_settings().port('HDFS')}"


def connections() -> dict[str, str]:
    """What Airflow would look up, as environment variables."""
    kafka, registry = bootstrap_servers(), registry_url()
    address, _, path = registry.removeprefix("http://").partition("/")
    host, port = address.split(":")
    hdfs_port = int(lake_root().rpartition(":")[2])
    stated: dict[str, dict[str, Any]] = {
        "kafka_default": {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka}},
        "schema_registry_default": {
            "conn_type": "http", "host": host, "port": int(port), "extra": {"path": f"/{path}"},
        },
        "hdfs_default": {"conn_type": "hdfs", "host": "127.0.0.1", "extra": {"rpc_port": hdfs_port}},
    }  # fmt: skip
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(facts) for name, facts in stated.items()}


def row(number: int, **values: Any) -> dict[str, Any]:
    from decimal import Decimal

    return {"id": number, "amount": Decimal(number).scaleb(-2), "note": f"note {number}", "happened_at": DAY, **values}


def framed(schema_id: int, values: dict[str, Any], schema: dict[str, Any] = AVRO) -> bytes:
    """By fastavro, which is not what is tested."""
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(schema), values)
    return struct.pack(">bI", 0, schema_id) + written.getvalue()


def rows_framed(schema_id: int, numbers: Sequence[int]) -> list[bytes]:
    return [framed(schema_id, row(number)) for number in numbers]


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def stop_at(point: str) -> None:
    """Let this process kill itself at a point of a load."""
    from tallyclerk.sinks.lake_stream import LakeStream
    from tallyclerk.sinks.quarantine import Quarantine
    from tallyclerk.sources.kafka_messages import KafkaMessages

    if point == "while reading":
        KafkaMessages._take = die  # type: ignore[method-assign]
    elif point == "before quarantine":
        Quarantine.replace_range = die  # type: ignore[method-assign]
    elif point == "after quarantine":
        LakeStream.append = die  # type: ignore[method-assign]
    elif point == "after staging":
        _only_for_rows(LakeStream, "_commit")
    elif point == "after commit":
        commit = LakeStream._commit

        def commit_and_die(self: LakeStream, *arguments: Any, **options: Any) -> Any:
            conflict = commit(self, *arguments, **options)
            return conflict if self.dataset.endswith(".quarantine") else die()

        LakeStream._commit = commit_and_die  # type: ignore[method-assign]


def _only_for_rows(kind: Any, name: str) -> None:
    original = getattr(kind, name)

    def stopped(self: Any, *arguments: Any, **options: Any) -> Any:
        return original(self, *arguments, **options) if self.dataset.endswith(".quarantine") else die()

    setattr(kind, name, stopped)


def arguments(case: LakeCase, *, stop: str = "", **task: Any) -> str:
    return json.dumps({"case": asdict(case), "task": task, "stop": stop})


if __name__ == "__main__":
    from tests.running import run_task_in_process

    asked = json.loads(sys.argv[1])
    os.environ.update(connections())
    stop_at(asked["stop"])
    print(json.dumps(run_task_in_process(LakeCase(**asked["case"]).task(**asked["task"])).value))
