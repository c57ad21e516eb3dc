"""A day that both layers got sales of, in places of a test's own, and what a reconciliation finds of it."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from airflow.sdk import Asset
from confluent_kafka import Producer
from deltalake import DeltaTable

from stack.settings import LOOPBACK, ROOT, load_settings
from tallyclerk.operators.reconcile import ReconcileOperator
from tests.integration.cassandra.kpi_layers import BATCH, Kpi, Layers, kpi, write_day
from tests.integration.cassandra.upsert_case import connect
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers
from tests.running import RunTask

SALES = str(ROOT / "include/contracts/transactions.odcs.yaml")
DRIFT = Asset(name="test_drift", uri="tallyclerk://lake/test/drift")


@dataclass(frozen=True)
class Sale:
    """One sales line as both layers get it."""

    number: int
    household: int
    amount: str
    at: datetime

    @property
    def key(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, f"sale {self.number}"))

    @property
    def message(self) -> bytes:
        facts = {
            "transaction_id": self.key, "household_id": self.household, "store_id": 1, "basket_id": 1, "product_id": "p",
            "quantity": 1, "sales_value": self.amount, "retail_disc": "0.00", "coupon_disc": "0.00",
            "coupon_match_disc": "0.00", "week": 1, "transaction_timestamp": f"{self.at:%Y-%m-%dT%H:%M:%SZ}",
        }  # fmt: skip
        return json.dumps(facts).encode()


def kpis(sales: Iterable[Sale]) -> dict[str, Kpi]:
    """What a layer that knows just these sales answers, each sale once."""
    amounts: defaultdict[str, list[Decimal]] = defaultdict(list)
    for sale in {sale.key: sale for sale in sales if Decimal(sale.amount)}.values():
        amounts[str(sale.household)].append(Decimal(sale.amount))
    return {customer: kpi(sum(spent, Decimal("0.00")), len(spent)) for customer, spent in amounts.items()}


@dataclass
class Reconciled:
    """A day that both layers got sales of, in places of the test's own."""

    layers: Layers
    topic: TopicCase
    run_task: RunTask
    day: date = field(default_factory=lambda: (datetime.now(UTC) - timedelta(days=1)).date())

    def sales(self, count: int, *, households: int = 8) -> list[Sale]:
        """So many of the day, divided over the households, its first and last instant among them."""
        midnight = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        instants = [midnight, *(midnight + timedelta(minutes=number) for number in range(1, count - 1))]
        instants.append(midnight + timedelta(days=1, seconds=-1))
        return [
            Sale(number, 1 + number % households, str(Decimal(100 + 7 * number).scaleb(-2)), at)
            for number, at in enumerate(instants)
        ]

    def batch(self, sales: Iterable[Sale], *, close: bool = True) -> None:
        """The sales in the lake, their KPIs in Cassandra, and the day closed."""
        kept = [sale for sale in sales if Decimal(sale.amount)]
        rows = pa.table(
            {
                "transaction_id": [sale.key for sale in kept],
                "household_id": pa.array([sale.household for sale in kept], pa.int64()),
                "sales_value": pa.array([Decimal(sale.amount) for sale in kept], pa.decimal128(12, 2)),
            }
        )
        write_day(f"{self.layers.hdfs}{self.layers.folder}/sales", self.day, rows)
        self.layers.compute(self.day, kpis(kept))
        self.run_task(self.layers.load(self.day))
        if close:
            self.run_task(self.layers.close(self.day))

    def stream(self, sales: Iterable[Sale], *, counted: Iterable[Sale] | None = None) -> None:
        """The sales in the topic, and in the speed layer the KPIs of those that it counted."""
        sales = list(sales)
        producer = Producer({"bootstrap.servers": bootstrap_servers()})
        for sale in sales:
            producer.produce(self.topic.name, value=sale.message, key=sale.key)
        assert producer.flush(60) == 0
        today = [sale for sale in (sales if counted is None else counted) if sale.at.date() == self.day]
        self.layers.stream(self.day, kpis(today))

    def send(self, *values: bytes | None) -> None:
        producer = Producer({"bootstrap.servers": bootstrap_servers()})
        for value in values:
            producer.produce(self.topic.name, value=value, key=b"k")
        assert producer.flush(60) == 0

    def task(self, **options: Any) -> ReconcileOperator:
        return ReconcileOperator(
            **{
                "task_id": "reconcile", "days": [self.day.isoformat()], "contract": BATCH, "details": SALES,
                "target": f"{self.layers.folder}/drift", "sales": f"{self.layers.folder}/sales", "topic": self.topic.name,
                "keyspace": self.layers.keyspace, "outlets": [DRIFT], **options,
            }
        )  # fmt: skip

    def found(self, **options: Any) -> dict[str, Any]:
        """What the task says of the day."""
        return self.run_task(self.task(**options)).value[self.day.isoformat()]

    def recorded(self, table: str = "drift") -> list[dict[str, Any]]:
        rows = DeltaTable(f"{self.layers.hdfs}{self.layers.folder}/{table}").to_pyarrow_table().to_pylist()
        assert {(row.pop("year"), row.pop("month"), row.pop("day")) for row in rows} <= {self.day.timetuple()[:3]}
        return sorted(rows, key=lambda row: (row["customer_id"], row.get("transaction_id", "")))


@contextmanager
def reconciled_day(monkeypatch: pytest.MonkeyPatch, run_task: RunTask) -> Iterator[Reconciled]:
    """Keyspace, folder and topic; all are gone afterwards."""
    settings = load_settings()
    for name, facts in {
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "cassandra_default": {"conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA")},
        "kafka_default": {"conn_type": "kafka", "extra": {"bootstrap.servers": bootstrap_servers()}},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(facts))
    topic = TopicCase(bootstrap_servers())
    with connect(settings.port("CASSANDRA")) as cluster:
        layers = Layers(cluster.connect(), f"hdfs://{LOOPBACK}:{settings.port('HDFS')}")
        with layers.made():
            topic.create()
            try:
                yield Reconciled(layers, topic, run_task)
            finally:
                topic.delete()
