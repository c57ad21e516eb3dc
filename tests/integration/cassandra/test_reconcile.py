"""Drift between the layers, injected sale by sale, is found to the row; and what is no drift is not."""

from __future__ import annotations

import json
import threading
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from airflow.sdk import Asset
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.observability import stats
from confluent_kafka import Producer
from deltalake import DeltaTable

from stack.settings import LOOPBACK, ROOT, load_settings
from tallyclerk.exceptions import DriftError, NotSignedError, SpecError
from tallyclerk.operators.reconcile import ReconcileOperator
from tallyclerk.sinks.lake_table import receipts_of
from tests.integration.cassandra.kpi_layers import BATCH, Kpi, Layers, kpi, write_day
from tests.integration.cassandra.upsert_case import connect
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers
from tests.running import RunTask

pytestmark = pytest.mark.integration
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


@pytest.fixture
def reconciled(monkeypatch: pytest.MonkeyPatch, run_task: RunTask) -> Iterator[Reconciled]:
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


class Gauges(NoStatsLogger):
    """Keeps what it is told."""

    def __init__(self, told: dict[str, float]) -> None:
        self._told = told

    def gauge(self, stat: str, value: float, *_: Any, **__: Any) -> None:  # type: ignore[override]
        self._told[stat] = value


def outcome(facts: dict[str, Any]) -> list[int]:
    return [facts[name] for name in ("customers", "agreeing", "only_in_batch", "only_in_speed", "different")]


def test_there_is_no_drift_when_both_layers_got_the_same_sales(reconciled: Reconciled) -> None:
    sales = reconciled.sales(40)
    free = [Sale(900, 1, "0.00", sales[3].at), Sale(901, 99, "0.00", sales[3].at)]
    other_day = [Sale(902, 2, "5.00", sales[-1].at + timedelta(seconds=1))]
    reconciled.batch([*sales, free[0]])
    reconciled.stream([*sales, *sales[:5], *free, *other_day])  # some are sent twice

    gauges: dict[str, float] = {}
    stats.initialize(factory=lambda: Gauges(gauges), export_legacy_names=False)  # as the task runner does
    try:
        run = reconciled.run_task(reconciled.task())
    finally:
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)
    assert gauges == {
        f"tallyclerk.customer_kpis.{name}": 0.0
        for name in ("drift_rows", "drift_ratio", "drift_dollars", "not_streamed_days")
    }
    facts = run.value[reconciled.day.isoformat()]
    assert (facts["status"], outcome(facts), facts["amount_difference"]) == ("agrees", [8, 8, 0, 0, 0], "0.00")
    assert run.events == {DRIFT.uri: {"days": run.value}}
    assert facts["receipt"]["ledger"] == {"read": 8, "written": 0, "rejected": 0, "filtered": 8, "deduplicated": 0}
    assert reconciled.recorded() == []
    assert reconciled.found()["receipt"] == {**facts["receipt"], "repeated": True}


def test_each_sale_is_named_when_the_layers_got_other_ones(reconciled: Reconciled) -> None:
    sales = reconciled.sales(40)
    only_in_files = [sales[0], sales[9]]  # customers 1 and 2
    dearer = replace(sales[18], amount="9.99")  # customer 3, 2.26 in the files
    free_in_files = sales[27]  # customer 4: 0.00 in the files, thus in the stream only
    only_in_api = [Sale(1000, 5, "4.00", sales[3].at), Sale(1001, 77, "0.50", sales[-1].at)]
    unseen = sales[37]  # customer 6: in the topic, and yet Flink has not counted it
    reconciled.batch([sale for sale in sales if sale != free_in_files])
    streamed = [dearer if sale == sales[18] else sale for sale in sales if sale not in only_in_files]
    streamed += only_in_api
    reconciled.stream([*streamed, *streamed[:3]], counted=[sale for sale in streamed if sale != unseen])
    noise = [Sale(1002, 1, "0.00", sales[3].at), Sale(1003, 1, "5.00", sales[-1].at + timedelta(seconds=1))]
    reconciled.send(b"no JSON", None, b'{"transaction_id": "1"}', *(sale.message for sale in noise))

    with pytest.raises(DriftError, match=r"2 of 9 customers agree, 0 are only in the batch layer, 1 only in the speed"):
        reconciled.found()
    facts = reconciled.found(on_drift="warn")
    assert (facts["status"], outcome(facts)) == ("drift", [9, 2, 0, 1, 6])
    assert facts["receipt"]["repeated"]

    before, after = kpis(sale for sale in sales if sale != free_in_files), kpis(s for s in streamed if s != unseen)
    zero = Kpi(Decimal("0.00"), 0, Decimal(0))
    assert reconciled.recorded() == [
        {
            "date": reconciled.day, "customer_id": customer,
            "drift": "different" if customer in before else "only_in_speed",
            "batch_amount": before[customer].total if customer in before else None, "speed_amount": after[customer].total,
            "amount_difference": after[customer].total - before.get(customer, zero).total,
            "batch_count": before[customer].count if customer in before else None, "speed_count": after[customer].count,
            "count_difference": after[customer].count - before.get(customer, zero).count,
        }
        for customer in ("1", "2", "3", "4", "5", "6", "77")
    ]  # fmt: skip

    def line(sale: Sale, drift: str, loaded: str | None, sent: str | None) -> dict[str, Any]:
        amounts = [amount and Decimal(amount) for amount in (loaded, sent)]
        return {
            "transaction_id": sale.key, "customer_id": str(sale.household), "drift": drift, "batch_amount": amounts[0],
            "stream_amount": amounts[1], "amount_difference": Decimal(sent or 0) - Decimal(loaded or 0),
        }  # fmt: skip

    assert reconciled.recorded("drift_lines") == [
        *(line(sale, "only_in_batch", sale.amount, None) for sale in only_in_files),
        line(dearer, "different", "2.26", "9.99"),
        line(free_in_files, "only_in_stream", None, free_in_files.amount),
        *(line(sale, "only_in_stream", None, sale.amount) for sale in only_in_api),
    ]
    assert facts["lines"] == {"only_in_batch": 2, "only_in_stream": 3, "different": 1, "customers_without": 1}
    difference = sum((kpi.total for kpi in after.values()), Decimal(0)) - sum(kpi.total for kpi in before.values())
    assert facts["amount_difference"] == str(difference)


def test_the_recorded_drift_is_replaced_when_a_correction_heals_it(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales[1:])
    reconciled.stream(sales)
    assert reconciled.found(max_drift_rows=1, max_drift_ratio=0.2)["status"] == "drift"
    assert [len(reconciled.recorded(table)) for table in ("drift", "drift_lines")] == [1, 1]
    reconciled.batch(sales)
    assert reconciled.found()["status"] == "agrees"
    assert [len(reconciled.recorded(table)) for table in ("drift", "drift_lines")] == [0, 0]
    uri = f"{reconciled.layers.hdfs}{reconciled.layers.folder}/drift"
    assert [receipt.ledger.written for receipt in receipts_of(uri)] == [0, 1]


def test_the_task_fails_only_when_more_customers_drift_than_may(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales)
    reconciled.stream(sales[2:])  # two of eight customers
    for limits in (
        {"max_drift_ratio": 0.25}, {"max_drift_ratio": None, "max_drift_rows": 2}, {"max_drift_ratio": None},
    ):  # fmt: skip
        assert reconciled.found(details=None, **limits)["status"] == "drift"
    for limits in (
        {}, {"max_drift_ratio": 0.24}, {"max_drift_ratio": None, "max_drift_rows": 1},
        {"max_drift_ratio": 0.5, "max_drift_rows": 1},
    ):  # fmt: skip
        with pytest.raises(DriftError, match="6 of 8 customers agree"):
            reconciled.found(details=None, **limits)
    assert len(reconciled.recorded()) == 2


def test_the_days_last_sales_are_waited_for_when_the_stream_is_a_little_behind(reconciled: Reconciled) -> None:
    sales = reconciled.sales(20)
    reconciled.batch(sales)
    reconciled.stream(sales, counted=sales[:-2])
    assert reconciled.found(on_drift="warn")["status"] == "drift"
    behind = threading.Timer(5, lambda: reconciled.layers.stream(reconciled.day, kpis(sales)))
    behind.start()
    try:
        assert reconciled.found(settle_seconds=120)["status"] == "agrees"
    finally:
        behind.join()


def test_a_day_is_not_streamed_when_the_speed_layer_has_nothing_of_it(reconciled: Reconciled) -> None:
    reconciled.batch(reconciled.sales(16))
    assert reconciled.found() == {"status": "not_streamed", "customers": 8, "in_speed": 0}
    with pytest.raises(DriftError, match="holds 0 of 8 customers"):
        reconciled.found(require_stream=True)


def test_what_was_recorded_stays_when_the_speed_layers_rows_expire(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales)
    reconciled.stream(sales[2:])
    reconciled.found(on_drift="warn")
    # by now the first of its rows may be gone, which is no drift
    assert reconciled.found(speed_ttl_seconds=3600) == {"status": "not_streamed", "customers": 8, "in_speed": 8}
    assert len(reconciled.recorded()) == 2


def test_nothing_is_compared_when_the_day_is_not_closed(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales, close=False)
    reconciled.stream(sales)
    with pytest.raises(NotSignedError, match="the day is not closed"):
        reconciled.found()
    with pytest.raises(SpecError, match="on_drift='ignore'"):
        reconciled.found(on_drift="ignore")
