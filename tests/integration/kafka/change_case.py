"""A table in the stack's database and a topic of its own, and the operator between them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from stack.settings import LOOPBACK, Settings, load_settings
from tallyclerk.transfers.database_changes_to_kafka import DatabaseChangesToKafkaOperator
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers, registry_url
from tests.integration.postgres.capturing import item_contract

COLUMNS = """\
      - {name: label, logicalType: string, physicalType: text}
      - {name: changed_at, logicalType: timestamp, physicalType: timestamptz, required: true}
"""


@dataclass(frozen=True)
class ChangeCase:
    """:param topic: name of topic, data set, slot and publication, and of the table, with underscores."""

    topic: TopicCase
    db: psycopg.Connection
    contract: Path
    port: int
    password: str

    @property
    def table(self) -> str:
        return f"public.{self.slot}"

    @property
    def slot(self) -> str:
        return self.topic.name.replace("-", "_")

    def environment(self) -> dict[str, str]:
        """The connections, as variables."""
        registry = registry_url().partition("127.0.0.1:")[2]
        connections = {
            "change_db": {
                "conn_type": "postgres", "host": LOOPBACK, "port": self.port, "schema": "retail", "login": "retail",
                "password": self.password,
            },
            "change_kafka": {"conn_type": "kafka", "extra": {"bootstrap.servers": self.topic.bootstrap}},
            "change_registry": {
                "conn_type": "http", "host": LOOPBACK, "port": int(registry.partition("/")[0]),
                "extra": {"path": registry.partition("/")[2]},
            },
        }  # fmt: skip
        return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(facts) for name, facts in connections.items()}

    def arguments(self, **options: Any) -> dict[str, Any]:
        return {
            "database_conn_id": "change_db", "kafka_conn_id": "change_kafka", "registry_conn_id": "change_registry",
            "table": self.table, "contract": str(self.contract), "topic": self.topic.name, "dataset": self.topic.name,
            "slot": self.slot, "publication": self.slot, "commits_topic": self.topic.commits, "value_format": "json",
            "mode": "both", **options,
        }  # fmt: skip

    def operator(self, **options: Any) -> DatabaseChangesToKafkaOperator:
        return DatabaseChangesToKafkaOperator(task_id="changes", **self.arguments(**options))

    def events(self) -> list[dict[str, Any]]:
        """What a read_committed reader gets, without the tombstones, each key's in its order."""
        return [json.loads(message.value) for message in self.topic.messages() if message.value is not None]

    def tombstones(self) -> list[int]:
        return sorted(int(message.key) for message in self.topic.messages() if message.value is None)

    def state(self) -> dict[int, str | None]:
        """The labels by key, after all events."""
        labels: dict[int, str | None] = {}
        for event in self.events():
            if event["__deleted"]:
                del labels[event["id"]]
            else:
                labels[event["id"]] = event["label"]
        return labels

    def rows(self) -> dict[int, str | None]:
        return {
            row["id"]: row["label"]
            for row in self.db.cursor(row_factory=dict_row).execute(f"SELECT * FROM {self.table}")
        }


@contextmanager
def change_case(folder: Path, *, settings: Settings | None = None) -> Iterator[ChangeCase]:
    """Make table and topics, and drop them with slot and publication."""
    settings = settings or load_settings()
    topic = TopicCase(bootstrap_servers(), f"changes-{uuid4().hex[:12]}")
    password, port = settings.secret("RETAIL_DB_PASSWORD"), settings.port("POSTGRES")
    uri = make_conninfo(host=LOOPBACK, port=port, user="retail", password=password, dbname="retail")
    contract = item_contract(folder, COLUMNS)
    topic.create()
    db = psycopg.connect(uri, autocommit=True)
    case = ChangeCase(topic, db, contract.path, port, password)
    try:
        db.execute(
            f"CREATE TABLE {case.table} (id bigint PRIMARY KEY, label text, changed_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        db.execute(f"ALTER TABLE {case.table} REPLICA IDENTITY FULL")
        yield case
    finally:
        topic.delete()
        db.close()
        with psycopg.connect(uri, autocommit=True) as mender:
            mender.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [case.slot]
            )
            mender.execute(f"DROP PUBLICATION IF EXISTS {case.slot}")
            mender.execute(f"DROP TABLE IF EXISTS {case.table}")
