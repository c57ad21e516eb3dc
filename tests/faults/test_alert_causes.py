"""Alerts on services fire by what really causes them: processes that are killed, a slot that nobody reads.

A real Prometheus scrapes what the endpoint asks the services, an instance of the test's own, and evaluates the committed rules;
only their thresholds and times are shortened.
"""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator

import httpx
import psycopg
import pytest
import uvicorn
import yaml
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from stack.processes import wait_until
from stack.prometheus import ensure_prometheus
from stack.services.flink import JOBMANAGER, TASKMANAGER
from stack.settings import LOOPBACK, load_settings
from stack.supervisor import Supervisor
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.monitoring.services import measure_flink, measure_services, measure_slots
from tests.second_stack import free_ports, kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.long]
LIMIT_SECONDS = 120
RULES = load_settings().conf / "prometheus" / "alerts.yml"
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


@pytest.fixture(scope="module")
def prometheus(endpoint: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("prometheus")
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
        if rule["alert"] in SHORTENED:
            stated, shorter = SHORTENED[rule["alert"]]
            assert stated in rule["expr"]
            rule["expr"] = rule["expr"].replace(stated, shorter)
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [{"job_name": "ours", "static_configs": [{"targets": [f"{LOOPBACK}:{endpoint}"]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [ensure_prometheus(load_settings()) / "prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address={LOOPBACK}:{port}"],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}/api/v1", trust_env=False, timeout=10) as client:
            yield client
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)


def fires(prometheus: httpx.Client, alert: str, **labels: str) -> bool:
    wanted = {"alertname": alert, **labels}.items()

    def is_there() -> bool:
        try:
            answer = prometheus.get("/alerts")
        except httpx.TransportError:
            return False  # not up yet
        alerts = answer.json()["data"]["alerts"] if answer.is_success else []
        return any(each["state"] == "firing" and each["labels"].items() >= wanted for each in alerts)

    return wait_until(is_there, LIMIT_SECONDS)


def test_the_alert_fires_when_nobody_reads_a_slot(stack: Supervisor, prometheus: httpx.Client) -> None:
    settings = stack.settings
    with psycopg.connect(
        host=LOOPBACK, port=settings.port("POSTGRES"), dbname="retail", user="retail",
        password=settings.secret("RETAIL_DB_PASSWORD"), autocommit=True,
    ) as database:  # fmt: skip
        database.execute("SELECT pg_create_logical_replication_slot('forgotten', 'pgoutput')")
        database.execute("CREATE TABLE filling AS SELECT n, repeat('x', 100) AS text FROM generate_series(1, 50000) n")
        assert fires(prometheus, "SlotKeepsLog", slot="forgotten")
        database.execute("SELECT pg_drop_replication_slot('forgotten')")


def test_the_alerts_fire_when_flink_dies_part_by_part(stack: Supervisor, prometheus: httpx.Client) -> None:
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
