"""A Flink job of one's own: its topics and script, sales that come under load, and a worker and triggerer in one process."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.module_loading import import_string
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from stack.processes import wait_until
from stack.settings import LOOPBACK, Settings
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.hooks.flink_status import OVER
from tallyclerk.operators.flink_sql_job import FlinkSqlJobOperator
from tests.integration.cassandra.upsert_case import connect
from tests.integration.kafka.topic_case import read_topic, until_led

LIMIT_SECONDS = 300
CUSTOMERS = 50
SCRIPT = """-- what each customer has spent so far
SET 'pipeline.name' = '@JOB_NAME@';
SET 'table.local-time-zone' = 'UTC';
SET 'execution.checkpointing.interval' = '1 s';
SET 'execution.checkpointing.min-pause' = '0 s';

CREATE TABLE sales (
  transaction_id STRING,
  customer_id STRING,
  sales_value DECIMAL(18, 2)
) WITH (
  'connector' = 'kafka',
  'topic' = '@SOURCE_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  'properties.group.id' = '@JOB_NAME@',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE TABLE totals (
  customer_id STRING,
  total_amount DECIMAL(18, 2),
  transaction_count BIGINT,
  PRIMARY KEY (customer_id) NOT ENFORCED
) WITH (
  'connector' = '@CONNECTOR@',
  'topic' = '@SINK_TOPIC@',
  'properties.bootstrap.servers' = '@BOOTSTRAP@',
  'key.format' = 'json',
  'value.format' = 'json'
);

INSERT INTO totals
SELECT customer_id, CAST(SUM(sales_value) AS DECIMAL(18, 2)), COUNT(*)
FROM sales WHERE sales_value > 0 GROUP BY customer_id;
"""


FILTERED = SCRIPT.replace("WHERE sales_value > 0", "WHERE sales_value > 0 AND customer_id IS NOT NULL")
"""Another script, with the same answer and the same state."""


def set_connections(settings: Settings, monkeypatch: pytest.MonkeyPatch, *, flink: Settings | None = None) -> None:
    """:param flink: of another instance."""
    for name, facts in {
        "FLINK_DEFAULT": {"conn_type": "flink", "host": LOOPBACK, "port": (flink or settings).port("FLINK")},
        "CASSANDRA_DEFAULT": {"conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA")},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(facts))
    monkeypatch.setenv("TALLYCLERK_FLINK_JARS", str(settings.jars("flink")))


@dataclass
class FlinkJobCase:
    """:param folder: for scripts."""

    settings: Settings
    folder: Path
    name: str = field(default_factory=lambda: f"flink_{uuid.uuid4().hex[:10]}")
    sent: list[tuple[str, Decimal]] = field(default_factory=list)
    """Customer and amount of each sale that Kafka has committed."""

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.settings.port('KAFKA')}"

    @property
    def totals_topic(self) -> str:
        return f"{self.name}.totals"

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap})

    @cached_property
    def hook(self) -> FlinkHook:
        return FlinkHook()

    @classmethod
    @contextmanager
    def made(cls, settings: Settings, folder: Path) -> Iterator[FlinkJobCase]:
        case = cls(settings, folder)
        case.create()
        try:
            yield case
        finally:
            case.delete()

    def create(self) -> None:
        topics = [NewTopic(self.name, 2, 1), NewTopic(self.totals_topic, 1, 1, config={"cleanup.policy": "compact"})]
        for future in self.admin.create_topics(topics, operation_timeout=120).values():
            future.result(120)
        until_led(self.admin, {self.name: 2, self.totals_topic: 1})

    def delete(self) -> None:
        """Jobs, topics and the keyspace."""
        for job in self.alive():
            self.hook.cancel(job)
        assert wait_until(lambda: not self.alive(), LIMIT_SECONDS)
        for future in self.admin.delete_topics([self.name, self.totals_topic]).values():
            future.result(120)
        with connect(self.settings.port("CASSANDRA")) as cluster:
            cluster.connect().execute(f"DROP KEYSPACE IF EXISTS {self.name}", timeout=120)

    def alive(self) -> list[str]:
        """Ids of this case's jobs that are not over."""
        return [job.job_id for job in self.hook.jobs() if job.name == self.name and job.state not in OVER]

    def generations(self) -> list[tuple[int, str, str]]:
        """Number, kind and status of each generation in the table, oldest first."""
        with connect(self.settings.port("CASSANDRA")) as cluster:
            rows = cluster.connect(self.name).execute(
                "SELECT number, kind, status FROM tallyclerk_flink_jobs WHERE job = %s", (self.name,)
            )
            return sorted((row.number, row.kind, row.status) for row in rows)

    def operator(self, text: str = SCRIPT, *, without: Sequence[str] = (), **options: Any) -> FlinkSqlJobOperator:
        """:param without: parameters that the text has no placeholder for."""
        path = self.folder / f"{uuid.uuid4().hex[:8]}.sql"
        path.write_text(text)
        parameters = {
            "SOURCE_TOPIC": self.name, "SINK_TOPIC": self.totals_topic, "BOOTSTRAP": self.bootstrap,
            "CONNECTOR": "upsert-kafka",
        }  # fmt: skip
        stated = {
            "script": str(path), "job_name": self.name, "keyspace": self.name, "poll_interval_seconds": 1,
            "limit_seconds": LIMIT_SECONDS,
            "parameters": {name: value for name, value in parameters.items() if name not in without},
        }  # fmt: skip
        return FlinkSqlJobOperator(task_id="job", dag=DAG("flink_job", schedule=None), **{**stated, **options})

    def sell(self, count: int) -> None:
        """``count`` sales in one Kafka transaction, and as many in one that is aborted."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": self.name})
        producer.init_transactions(120)
        for is_committed in (False, True):
            producer.begin_transaction()
            sales = [(f"c{(len(self.sent) + n) % CUSTOMERS}", Decimal(n % 997) / 100) for n in range(count)]
            for customer, amount in sales:
                value = {"transaction_id": uuid.uuid4().hex, "customer_id": customer, "sales_value": str(amount)}
                producer.produce(self.name, key=value["transaction_id"], value=json.dumps(value))
                producer.poll(0)
            if is_committed:
                producer.commit_transaction(120)
                self.sent += sales
            else:
                producer.abort_transaction(120)

    def expected(self) -> dict[str, tuple[Decimal, int]]:
        """Total and count by customer, of what was sent."""
        found: dict[str, list[Decimal]] = defaultdict(list)
        for customer, amount in self.sent:
            if amount > 0:
                found[customer].append(amount)
        return {customer: (sum(amounts, Decimal(0)), len(amounts)) for customer, amounts in found.items()}

    def totals(self) -> dict[str, tuple[Decimal, int]]:
        """The newest value of each key in the topic that the job writes."""
        found: dict[str, tuple[Decimal, int]] = {}
        for message in read_topic(self.bootstrap, self.totals_topic):
            value = json.loads(message.value or b"{}", parse_float=Decimal)
            found[value["customer_id"]] = (Decimal(value["total_amount"]), value["transaction_count"])
        return found

    def agrees(self) -> bool:
        """Whether the job's answer becomes that of what was sent."""
        return wait_until(lambda: self.totals() == self.expected(), LIMIT_SECONDS)


class Till:
    """Sells until told to stop."""

    def __init__(self, case: FlinkJobCase, *, rows: int = 200) -> None:
        self._case, self._rows, self._is_over = case, rows, threading.Event()
        self._thread = threading.Thread(target=self._sell)

    def _sell(self) -> None:
        while not self._is_over.wait(0.2):
            self._case.sell(self._rows)

    def __enter__(self) -> Till:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


def run_to_end(operator: BaseOperator, *, run_id: str = "run") -> Any:
    """What worker and triggerer do: run, wait for the trigger (as serialized), run on, until a value or an error."""
    context = {"dag_run": SimpleNamespace(run_id=run_id, conf={})}
    method, arguments = "execute", {}
    while True:
        try:
            return getattr(operator, method)(context, **arguments)
        except TaskDeferred as deferral:
            path, facts = deferral.trigger.serialize()
            event = asyncio.run(_first_event(import_string(path)(**json.loads(json.dumps(facts)))))
            method, arguments = deferral.method_name, {**(deferral.kwargs or {}), "event": event}


async def _first_event(trigger: Any) -> Any:
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger ended without an event")
