"""Alerts on services fire by what really causes them: processes that are killed, a slot that nobody reads, a disk that fails.

A real Prometheus scrapes an instance of the test's own and evaluates the committed rules; only their thresholds and times are shortened.
"""

from __future__ import annotations

import json
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import uvicorn
from confluent_kafka import Producer
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from stack.processes import wait_until
from stack.services import kafka
from stack.services.flink import JOBMANAGER, TASKMANAGER
from stack.settings import LOOPBACK, ROOT
from stack.supervisor import Supervisor
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.monitoring.services import measure_flink, measure_services, measure_slots
from tests.own_prometheus import Prometheus, own_prometheus, rules_at_once
from tests.second_stack import free_ports, kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.long]
LIMIT_SECONDS = 120
SHORTENED = {
    "SlotKeepsLog": ("1024 * 1024 * 1024", "4 * 1024 * 1024"),
    "CheckpointTooOld": ("> 600", "> 5"),
}
"""What stands in an alert's expression, and in its place here."""
JOB = """SET 'pipeline.name' = 'alerts';
SET 'execution.checkpointing.interval' = '1 h';
CREATE TABLE ticks (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1');
CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO nothing SELECT n FROM ticks;
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with second_stack(tmp_path_factory.mktemp("second-alerts"), "postgres", "flink") as stack:
        yield stack


@pytest.fixture(scope="module")
def connections(stack: Supervisor) -> Iterator[None]:
    settings = stack.settings
    stated = {
        "FLINK_DEFAULT": {"conn_type": "flink", "port": settings.port("FLINK")},
        "SHOP_DB": {
            "conn_type": "postgres", "port": settings.port("POSTGRES"), "schema": "retail", "login": "retail",
            "password": settings.secret("RETAIL_DB_PASSWORD"),
        },
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, facts in stated.items():
            patch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"host": LOOPBACK, **facts}))
        yield


@pytest.fixture(scope="module")
def endpoint(connections: None) -> Iterator[int]:
    (port,) = free_ports(1)
    app = FastAPI()
    asked = {"flink": measure_flink, "postgres": measure_slots}
    app.get("/metrics")(lambda: PlainTextResponse(measure_services(asked).text()))
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert wait_until(lambda: server.started, LIMIT_SECONDS)
        yield port
    finally:
        server.should_exit = True
        thread.join()


def target(job: str, port: int, path: str = "/metrics") -> dict[str, Any]:
    return {"job_name": job, "metrics_path": path, "static_configs": [{"targets": [f"{LOOPBACK}:{port}"]}]}


@pytest.fixture(scope="module")
def prometheus(endpoint: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    with own_prometheus(folder, [target("ours", endpoint)], rules_at_once(SHORTENED)) as running:
        yield running


def fires(prometheus: Prometheus, alert: str, **labels: str) -> bool:
    return prometheus.fires(alert, limit_seconds=LIMIT_SECONDS, **labels)


def test_the_alert_fires_when_nobody_reads_a_slot(stack: Supervisor, prometheus: Prometheus) -> None:
    settings = stack.settings
    with psycopg.connect(
        host=LOOPBACK, port=settings.port("POSTGRES"), dbname="retail", user="retail",
        password=settings.secret("RETAIL_DB_PASSWORD"), autocommit=True,
    ) as database:  # fmt: skip
        database.execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        database.execute("CREATE TABLE filling AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 50000) n")
        assert fires(prometheus, "SlotKeepsLog", slot="forgotten")
        database.execute("SELECT pg_drop_replication_slot('forgotten')")


def test_the_alerts_fire_when_flink_dies_part_by_part(stack: Supervisor, prometheus: Prometheus) -> None:
    hook = FlinkHook()
    (jar,) = stack.settings.jars("flink").glob("flink-sql-gateway-*.jar")
    assert hook.run(hook.uploaded_jar(jar), JOB, job="alerts", job_id=uuid.uuid4().hex)
    # it runs, and completes no checkpoint within the hour
    assert fires(prometheus, "CheckpointTooOld", flink_job="alerts")
    kill(stack, TASKMANAGER)
    assert fires(prometheus, "FlinkJobNotRunning", flink_job="alerts")
    kill(stack, JOBMANAGER)
    assert fires(prometheus, "ServiceAway", service="flink")
    stack.up([JOBMANAGER, TASKMANAGER])
    assert fires(prometheus, "FlinkJobVanished", flink_job="alerts")


def checkout(folder: Path, file: str, former: str, later: str) -> Path:
    """A copy of the services' configuration with one line changed, and all else of the checkout as it is."""
    (folder / "stack").mkdir(parents=True)
    for each in ROOT.iterdir():
        if each.name not in ("stack", ".tallyclerk"):
            (folder / each.name).symlink_to(each)
    for each in (ROOT / "stack").iterdir():
        if each.name != "conf":
            (folder / "stack" / each.name).symlink_to(each)
    shutil.copytree(ROOT / "stack" / "conf", folder / "stack" / "conf")
    changed = folder / "stack" / "conf" / file
    text = changed.read_text()
    assert former in text
    changed.write_text(text.replace(former, later))
    return folder


def test_the_alert_fires_when_a_disk_of_kafka_fails(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    root = checkout(tmp_path / "checkout", "kafka/server.properties.in", "log.dirs=@DATA@", f"log.dirs=@DATA@,{disk}")
    (tmp_path / "prometheus").mkdir()
    (tmp_path / "stack").mkdir()
    with second_stack(tmp_path / "stack", "kafka", root=root) as stack:
        scraped = [target("kafka", stack.settings.port("KAFKA_METRICS"))]
        with own_prometheus(tmp_path / "prometheus", scraped, rules_at_once()) as prometheus:
            assert wait_until(lambda: bool(prometheus.query("kafka_offline_partitions == 0")), LIMIT_SECONDS)
            # both folders hold partitions; where the second was, there is now a file, and the next segment cannot be made
            assert [each for each in disk.iterdir() if each.is_dir()]
            shutil.rmtree(disk)
            disk.write_text("")
            producer = Producer({"bootstrap.servers": kafka.bootstrap(stack.settings)})

            def has_failed() -> bool:
                for topic in ("transactions", "products", "customers"):
                    for partition in range(3):
                        producer.produce(topic, b"x", partition=partition)
                producer.poll(1)
                return prometheus.fires("KafkaPartitionsOffline", limit_seconds=0)

            assert wait_until(has_failed, LIMIT_SECONDS, poll_seconds=1)
