"""A table in the stack's database and a topic of its own, and the operator between them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row

from stack.settings import LOOPBACK, Settings, load_settings
from tallyclerk.contracts import load_contract
from tallyclerk.contracts.changes import change_key, change_schema
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.sinks.kafka_encoding import JsonEncoder
from tallyclerk.sources.database_log import LogChanges
from tallyclerk.transfers.change_stream import ChangeLoad
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers, registry_url
from tests.integration.postgres.capturing import item_contract

COLUMNS = """\
      - {name: label, logicalType: string, physicalType: text}
      - {name: changed_at, logicalType: timestamp, physicalType: timestamptz, required: true}
"""

if TYPE_CHECKING:
    from tallyclerk.transfers.database_changes_to_kafka import DatabaseChangesToKafkaOperator


@dataclass(frozen=True)
class ChangeCase:
    """:param topic: name of topic, data set, slot and publication, and of the table, with underscores."""

    topic: TopicCase
    db: psycopg.Connection
    contract: Path
    uri: str

    @property
    def table(self) -> str:
        return f"public.{self.slot}"

    @property
    def slot(self) -> str:
        return self.topic.name.replace("-", "_")

    @contextmanager
    def reconnected(self) -> Iterator[ChangeCase]:
        """The same, after the database was away."""
        with psycopg.connect(self.uri, autocommit=True) as db:
            yield replace(self, db=db)

    def environment(self) -> dict[str, str]:
        """The connections, as variables."""
        database, registry = conninfo_to_dict(self.uri), registry_url().partition("127.0.0.1:")[2]
        connections = {
            "change_db": {
                "conn_type": "postgres", "host": LOOPBACK, "port": database["port"], "schema": "retail", "login": "retail",
                "password": database["password"],
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
        from tallyclerk.transfers.database_changes_to_kafka import DatabaseChangesToKafkaOperator  # loads Airflow

        return DatabaseChangesToKafkaOperator(task_id="changes", **self.arguments(**options))

    def load(self, number: int, **options: Any) -> Receipt:
        """What the operator does for the window of a minute, without Airflow."""
        start = datetime(2026, 3, 1, 10, number, tzinfo=UTC)
        contract = load_contract(self.contract)
        source = LogChanges(
            uri=self.uri,
            table=self.table,
            contract=contract,
            slot=self.slot,
            publication=self.slot,
            dataset=self.topic.name,
        )
        encoder = JsonEncoder(change_schema(contract), change_key(contract))
        with self.topic.sink(encoder=encoder) as sink:
            return ChangeLoad(
                sink=sink, source=lambda _: replace(source, **options), contract=contract,
                window=Window(start, start + timedelta(minutes=1)), load_id=uuid4().hex,
            ).run()  # fmt: skip

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
    case = ChangeCase(topic, db, contract.path, uri)
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
