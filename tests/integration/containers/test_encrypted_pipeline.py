"""The pipeline's own clients with the connections of production: each reaches its service by TLS and login, and says so nowhere."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import psycopg
import pytest
from airflow.sdk import DAG
from psycopg.conninfo import make_conninfo

from include.shop.change_capture import publish_changes
from include.shop.customers import seed_customers
from include.shop.trading_days import current
from stack import security
from stack.processes import wait_until
from stack.services import connect, flink, hdfs
from stack.settings import ROOT, Settings
from tallyclerk.cli.settings_file import ConnectionSetting, read_settings
from tests.containers import Containers
from tests.integration.flink.flink_job_case import run_to_end
from tests.running import RunTask

pytestmark = [pytest.mark.integration, pytest.mark.long]

CONTRACTS = ROOT / "include" / "contracts"
PRODUCTION = ROOT / "include" / "deploy" / "airflow_settings.prod.yaml"
DAY = datetime(2026, 3, 10, tzinfo=UTC)
_LIMIT_SECONDS = 300


def as_json(connection: ConnectionSetting) -> str:
    names = ("conn_type", "host", "schema", "login", "password", "port", "extra")
    return json.dumps({name: value for name in names if (value := getattr(connection, name)) is not None})


@pytest.fixture
def settings(encrypted: Containers, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of the encrypted instance, whose connections are those that production loads."""
    environment = {**encrypted.settings.variables(), "TALLYCLERK_SHOP_URL": "https://shop.example.com"}
    for connection in read_settings(PRODUCTION, environment).connections:
        monkeypatch.setenv(f"AIRFLOW_CONN_{connection.conn_id.upper()}", as_json(connection))
    for name, value in hdfs.environment(encrypted.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TALLYCLERK_FLINK_JARS", str(encrypted.settings.jars("flink")))
    return encrypted.settings


@pytest.fixture
def customers(settings: Settings) -> int:
    """How many the shop has."""
    conninfo = make_conninfo(
        host=settings.host("POSTGRES"), port=settings.port("POSTGRES"), user="retail", dbname="retail",
        password=settings.secret("RETAIL_DB_PASSWORD"), **security.postgres_parameters(settings),
    )  # fmt: skip
    seed_customers(conninfo, current())
    publish_changes(conninfo)
    with psycopg.connect(conninfo) as connection:
        row = connection.execute("SELECT count(*) FROM customers").fetchone()
    assert row is not None
    return int(row[0])


def test_changes_go_from_the_database_through_kafka_to_the_lake(customers: int, run_task: RunTask) -> None:
    from deltalake import DeltaTable

    from tallyclerk.transfers.database_changes_to_kafka import DatabaseChangesToKafkaOperator
    from tallyclerk.transfers.database_to_hdfs import DatabaseToHdfsOperator
    from tallyclerk.transfers.kafka_to_hdfs import KafkaToHdfsOperator

    contract = str(CONTRACTS / "customers.odcs.yaml")
    changes = DatabaseChangesToKafkaOperator(
        task_id="changes", contract=contract, database_conn_id="shop_db", table="public.customers", mode="both",
        register="if_compatible",
    )  # fmt: skip
    land = KafkaToHdfsOperator(
        task_id="land", contract=contract, bounded_by="stream", change_events=True, target="/data/raw/customer_changes",
        quarantine="/data/quarantine/customer_changes",
    )  # fmt: skip
    whole = DatabaseToHdfsOperator(
        task_id="whole", contract=contract, database_conn_id="shop_db", table="public.customers", mode="full",
        target="/data/raw/customers",
    )  # fmt: skip
    assert run_task(changes, logical_date=DAY).value["ledger"]["written"] == customers
    for task in (land, whole):
        receipt = run_task(task, logical_date=DAY).value
        assert DeltaTable(receipt["location"]).to_pyarrow_table().num_rows == customers


def test_debezium_reads_the_database_and_writes_to_kafka(settings: Settings, customers: int, run_task: RunTask) -> None:
    from confluent_kafka import Consumer

    from tallyclerk.operators.connector import ConnectorOperator

    connector = ConnectorOperator(
        task_id="connector", connector="shop-customers", config=str(ROOT / "include" / "connect" / "customers-debezium.json"),
        wait_for_progress=False, forget_position=True,
    )  # fmt: skip
    run_task(connector)
    consumer = Consumer({**security.kafka_client(settings), "group.id": "look", "auto.offset.reset": "earliest"})
    consumer.subscribe(["shop_cdc.public.customers"])
    seen: set[tuple[int, int]] = set()

    def all_came() -> bool:
        seen.update((each.partition(), each.offset()) for each in consumer.consume(5000, 1) if not each.error())
        return len(seen) == customers

    try:
        assert wait_until(all_came, _LIMIT_SECONDS), f"{len(seen)} of {customers}"
        with psycopg.connect(
            host=settings.host("POSTGRES"), port=settings.port("POSTGRES"), user="postgres",
            password=settings.secret("POSTGRES_PASSWORD"), **security.postgres_parameters(settings),
        ) as connection:  # fmt: skip
            encrypted = connection.execute(
                "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'retail'"
            ).fetchone()
        assert encrypted == (True,)
        stated = httpx.get(f"{connect.url(settings)}/connectors/shop-customers/config", trust_env=False).json()
        assert stated["database.sslmode"] == "verify-full"
    finally:
        consumer.close()
        connector.state = "absent"
        run_task(connector)


def sell(settings: Settings) -> Mapping[str, tuple[Decimal, int]]:
    """Sales of today as the shop's API gives them; total and count by customer."""
    from confluent_kafka import Producer

    today, sums = datetime.now(UTC), defaultdict[str, list[Decimal]](list)
    producer = Producer({**security.kafka_client(settings), "transactional.id": "till"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for number in range(1000):
        amount = Decimal(number % 997) / 100
        sale = {
            "transaction_id": uuid.uuid4().hex, "household_id": str(number % 7), "sales_value": str(amount),
            "transaction_timestamp": today.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }  # fmt: skip
        producer.produce("transactions", key=sale["transaction_id"], value=json.dumps(sale))
        if amount > 0:
            sums[sale["household_id"]].append(amount)
    producer.commit_transaction(60)
    return {customer: (sum(amounts, Decimal(0)), len(amounts)) for customer, amounts in sums.items()}


def test_the_speed_layer_answers_and_shows_the_password_nowhere(
    encrypted: Containers, settings: Settings, run_task: RunTask
) -> None:
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
    from tallyclerk.hooks.flink import FlinkHook
    from tallyclerk.operators.flink_sql_job import FlinkSqlJobOperator
    from tallyclerk.transfers.kafka_to_cassandra import KafkaToCassandraOperator

    job = FlinkSqlJobOperator(
        task_id="job", dag=DAG("speed", schedule=None), job_name="customer_kpis", poll_interval_seconds=1,
        script=str(ROOT / "include" / "flink" / "customer_kpis.sql"),
        parameters={
            "BOOTSTRAP": settings.address("KAFKA"), "SOURCE_TOPIC": "transactions", "KPI_TOPIC": "customer_kpis_speed",
            "LATE_TOPIC": "transactions.late", "ACCEPTED_DAYS": 1, "STATE_DAYS": 4, "STATE_BACKEND": "hashmap",
        },
    )  # fmt: skip
    drain = KafkaToCassandraOperator(task_id="drain", contract=str(CONTRACTS / "customer_kpis_speed.odcs.yaml"))
    # deferred until a checkpoint is done, which takes a transaction of the exactly-once sink with it
    told = run_to_end(job)
    expected = sell(settings)
    found: dict[str, tuple[Decimal, int]] = {}

    def served() -> bool:
        run_task(drain)
        with CassandraClusterHook() as cassandra:
            query = "SELECT customer_id, total_amount, transaction_count FROM pipeline.customer_kpis_speed"
            found.update({row[0]: (row[1], row[2]) for row in cassandra.session.execute(query)})
        return found == expected

    assert wait_until(served, _LIMIT_SECONDS, poll_seconds=2), (found, expected)

    secret = settings.secret("KAFKA_PASSWORD")
    pages = [
        httpx.get(f"{flink.url(settings)}{path}", trust_env=False).text
        for path in (
            "/jobmanager/config", "/jobmanager/environment", "/jobmanager/log", f"/jobs/{told['job_id']}",
            f"/jobs/{told['job_id']}/config", f"/jobs/{told['job_id']}/plan",
        )
    ]  # fmt: skip
    assert any("java.security.auth.login.config" in page for page in pages)
    with CassandraClusterHook() as cassandra:
        (script,) = {row[0] for row in cassandra.session.execute("SELECT script FROM pipeline.tallyclerk_flink_jobs")}
    assert "'properties.security.protocol' = 'SASL_SSL', 'properties.sasl.mechanism' = 'PLAIN'," in script
    logs = [path.read_text(errors="replace") for path in settings.home.glob("*.log")]
    logs += [path.read_text(errors="replace") for path in settings.logs.glob("*") if path.is_file()]
    assert len(logs) >= len(("kafka", "connect", "flink-jobmanager", "flink-taskmanager"))
    assert not [text for text in (*pages, script, *logs) if secret in text]
    holders = [path for path in (settings.home / "secrets").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in holders} == {0o600}
    run_to_end(
        FlinkSqlJobOperator(task_id="stop", dag=DAG("stop", schedule=None), job_name="customer_kpis", action="stop")
    )
    assert FlinkHook().state(told["job_id"]) == "FINISHED"
