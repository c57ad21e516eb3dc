"""The speed layer's sums are those of an independent engine to the cent, whatever happens to the sales on their way.

The scripts are those that the pipeline runs. Sales come twice, late, out of order, at 0.00, and in a transaction that is aborted;
DuckDB computes what must come out. The topics are read with librdkafka.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Producer

from bench import live_sales
from bench.live_sales import ACCEPTED_DAYS, LiveSales
from stack.processes import wait_until
from stack.services import kafka, registry
from stack.settings import ROOT, Settings, load_settings
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.operators.flink_script import read_script
from tests.integration.flink.flink_job_case import set_connections
from tests.integration.kafka.topic_case import Message, read_topic

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROWS = 100_000
MANY_ROWS = 2_000_000
LIMIT_SECONDS = 300
CHECKPOINTS = "SET 'execution.checkpointing.interval' = '2 s'; SET 'execution.checkpointing.min-pause' = '1 s';"
"""More often than the stack's, which is what the tests wait for."""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture
def name() -> str:
    return f"exact-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def bootstrap(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> str:
    set_connections(settings, monkeypatch)
    return kafka.bootstrap(settings)


@contextmanager
def running(settings: Settings, script: str, name: str, **parameters: str) -> Iterator[Callable[[], bool]]:
    """A job of ``include/flink`` under way, ended and awaited after; gives a wait for the next checkpoint."""
    values = {
        "BOOTSTRAP": kafka.bootstrap(settings), "SOURCE_TOPIC": name, "STATE_BACKEND": "rocksdb",
        "ACCEPTED_DAYS": str(ACCEPTED_DAYS), "STATE_DAYS": str(ACCEPTED_DAYS + 3), **parameters,
    }  # fmt: skip
    hook, job_id = FlinkHook(), uuid.uuid4().hex
    (path,) = settings.jars("flink").glob("flink-sql-gateway-*.jar")
    text = read_script(ROOT / "include" / "flink" / script, values, job=name).text
    assert hook.run(hook.uploaded_jar(path), f"{CHECKPOINTS}\n{text}", job=name, job_id=job_id)

    def newest() -> int:
        status = hook.status(job_id)
        assert status is not None
        assert not status.is_over, hook.last_failure(job_id)
        return status.newest.number if status.newest else 0

    def checkpointed() -> bool:
        # the one under way may have begun before what is waited for
        former = newest()
        return wait_until(lambda: newest() >= former + 2, LIMIT_SECONDS, poll_seconds=1)

    try:
        yield checkpointed
    finally:
        hook.cancel(job_id)
        assert wait_until(lambda: hook.state(job_id) == "CANCELED", LIMIT_SECONDS)


def newest_values(bootstrap: str, topic: str, *key: str) -> dict[tuple[str, ...], dict[str, Any]]:
    """What a compacted topic comes to: the last value of each key that is not deleted. The value holds its key's members."""
    last: dict[bytes | None, bytes | None] = {message.key: message.value for message in read_topic(bootstrap, topic)}
    found = {}
    for identity, value in last.items():
        if value is not None:
            members = json.loads(value)
            assert json.loads(identity or b"") == {member: members[member] for member in key}
            found[tuple(members[member] for member in key)] = members
    return found


def customer_days(bootstrap: str, topic: str) -> dict[tuple[str, ...], tuple[str, int, str]]:
    found = newest_values(bootstrap, topic, "customer_id", "date")
    return {
        key: (value["total_amount"], value["transaction_count"], value["avg_transaction_value"])
        for key, value in found.items()
    }


def department_minutes(bootstrap: str, topic: str) -> dict[tuple[str, ...], tuple[str, int]]:
    found = newest_values(bootstrap, topic, "department", "minute")
    return {key: (value["total_amount"], value["transaction_count"]) for key, value in found.items()}


@pytest.mark.parametrize("rows", [ROWS, pytest.param(MANY_ROWS, marks=pytest.mark.long)])
def test_customer_days_are_exact_when_sales_come_twice_late_and_in_any_order(
    settings: Settings, bootstrap: str, name: str, rows: int
) -> None:
    sales, kpis, late = LiveSales(rows), f"{name}.kpis", f"{name}.late"
    expected, late_ids = sales.customer_days(), sales.late_ids()
    assert len(expected) > 2_000
    assert len(late_ids) > rows // 250
    with (
        live_sales.topics(bootstrap, name, kpis, late),
        running(settings, "customer_kpis.sql", name, KPI_TOPIC=kpis, LATE_TOPIC=late) as checkpointed,
    ):
        assert live_sales.send(bootstrap, name, sales) > rows
        limit = LIMIT_SECONDS + rows / 2_000
        # each look reads the topic from its begin, and takes from the job's CPU
        wait_until(lambda: customer_days(bootstrap, kpis) == expected, limit, poll_seconds=2 + rows / 100_000)
        assert checkpointed()
        assert customer_days(bootstrap, kpis) == expected
        messages = read_topic(bootstrap, late)
        assert sorted(message.key.decode() for message in messages if message.key) == late_ids
        assert_refers_to_its_source(messages[0], read_topic(bootstrap, name))


def assert_refers_to_its_source(late: Message, source: list[Message]) -> None:
    value = json.loads(late.value or b"")
    (whole,) = [
        message
        for message in source
        if (message.partition, message.offset) == (value["source_partition"], value["source_offset"])
    ]
    assert whole.key == late.key
    shown = json.loads(whole.value or b"")
    assert value["sales_value"] == shown["sales_value"]
    assert value["transaction_timestamp"] == shown["transaction_timestamp"]


def test_department_minutes_are_exact_when_the_catalogue_comes_after_the_sales(
    settings: Settings, bootstrap: str, name: str
) -> None:
    """The running registry's products, as the nightly load sends them: read from their begin while sales come."""
    sales, minutes = LiveSales(20_000), f"{name}.minutes"
    expected = sales.department_minutes()
    with live_sales.topics(bootstrap, name, minutes, f"{name}.products"):
        catalogue = Catalogue(bootstrap, registry.url(settings), f"{name}.products")
        try:
            with running(
                settings, "department_minutes.sql", name,
                MINUTES_TOPIC=minutes, PRODUCTS_TOPIC=catalogue.topic, REGISTRY=catalogue.registry_url,
            ) as checkpointed:  # fmt: skip
                live_sales.send(bootstrap, name, sales)
                total = sum(count for _, count in expected.values())
                wait_until(lambda: _sales_in(bootstrap, minutes) == total, LIMIT_SECONDS, poll_seconds=2)
                assert {department for department, _ in department_minutes(bootstrap, minutes)} == {"UNKNOWN"}
                catalogue.send()
                wait_until(lambda: department_minutes(bootstrap, minutes) == expected, LIMIT_SECONDS, poll_seconds=2)
                assert department_minutes(bootstrap, minutes) == expected
                # the next night's catalogue is the same: nothing is computed again
                assert checkpointed()
                before = len(read_topic(bootstrap, minutes))
                catalogue.send()
                assert checkpointed()
                assert checkpointed()
                assert len(read_topic(bootstrap, minutes)) == before
        finally:
            catalogue.close()


def _sales_in(bootstrap: str, topic: str) -> int:
    return sum(count for _, count in department_minutes(bootstrap, topic).values())


class Catalogue:
    """The shop's products as Confluent-framed Avro, in a topic of the test's own."""

    def __init__(self, bootstrap: str, registry_url: str, topic: str) -> None:
        import duckdb

        from include.shop.source import parquet_file, quoted
        from tallyclerk.contracts import load_contract
        from tallyclerk.contracts.avro_projection import avro_schema
        from tallyclerk.contracts.projections import arrow_schema
        from tallyclerk.sinks.kafka_encoding import AvroEncoder
        from tallyclerk.sinks.schema_registry import SchemaRegistry

        self.bootstrap, self.registry_url, self.topic = bootstrap, registry_url, topic
        contract = load_contract(ROOT / "include" / "contracts" / "products.odcs.yaml")
        schema = arrow_schema(contract)
        self._registry = SchemaRegistry(registry_url)
        encoder = AvroEncoder(
            schema, ["product_id"], registry=self._registry, topic=topic, avro=avro_schema(contract), register="if_compatible"
        )  # fmt: skip
        columns = ", ".join(f"CAST({name} AS VARCHAR) AS {name}" for name in schema.names)
        rows = duckdb.sql(f"SELECT {columns} FROM read_parquet({quoted(parquet_file('products'))})").to_arrow_table()
        self._messages = encoder.encode(rows.cast(schema))

    def send(self) -> None:
        producer = Producer({"bootstrap.servers": self.bootstrap, "transactional.id": self.topic, "linger.ms": 20})
        producer.init_transactions(120)
        producer.begin_transaction()
        for key, value in zip(self._messages.keys.to_pylist(), self._messages.values.to_pylist(), strict=True):
            live_sales.produce(producer, self.topic, key, value)
        assert producer.flush(300) == 0
        producer.commit_transaction(120)

    def close(self) -> None:
        import httpx

        httpx.delete(f"{self.registry_url}/subjects/{self.topic}-value", trust_env=False, timeout=60)
        self._registry.close()
