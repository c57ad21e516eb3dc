"""A real Prometheus scrapes the application of the page; the committed rules fire on what a bad load, a drift and a dead target make it see."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import uvicorn
import yaml
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from stack import security
from stack.processes import wait_until
from stack.prometheus import ensure_prometheus
from stack.settings import LOOPBACK, Settings, load_settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.monitoring.loads import measure_loads
from tallyclerk.monitoring.measures import MEASURES, PREFIX
from tallyclerk.ui.app import application
from tallyclerk.ui.loads import Comparison, Load
from tests.second_stack import free_ports

RULES = load_settings().conf / "prometheus" / "alerts.yml"
LIMIT_SECONDS = 60


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def tools(settings: Settings) -> Path:
    return ensure_prometheus(settings)


def bad_loads() -> str:
    """The text of a scrape that finds a ledger that does not close, rejects, an old window and a drift."""
    now = datetime.now(UTC)
    receipt = Receipt("sales", "2026-01-31", Ledger(read=100, written=90, rejected=5), "hdfs://host/data/raw/sales")
    loads = [Load("shop", "sales", "run", -1, now, receipt, now - timedelta(hours=37))]
    drift = [Comparison("shop", "reconcile", "2026-01-31", now, "drift", {"customers": 10, "agreeing": 8})]
    return measure_loads(loads, drift, now).text().decode()


@pytest.fixture(scope="module")
def served() -> Iterator[int]:
    """The application, on a port of its own, and beside it the scrape of bad loads."""
    (port,) = free_ports(1)
    app = FastAPI()
    app.get("/bad")(lambda: PlainTextResponse(bad_loads()))
    app.mount("/tallyclerk", application())
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert wait_until(lambda: server.started, LIMIT_SECONDS)
    yield port
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def prometheus(
    settings: Settings, tools: Path, served: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """It scrapes both each second, and a target that is away."""
    folder = tmp_path_factory.mktemp("prometheus")
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)  # the expressions stay
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules))
    (folder / "token").write_text(settings.secret("METRICS_TOKEN"))
    port, away = free_ports(2)
    jobs = (("tallyclerk", "/tallyclerk/metrics", served), ("bad", "/bad", served), ("away", "/metrics", away))
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": name,
                "metrics_path": path,
                "authorization": {"credentials_file": "token"},
                "static_configs": [{"targets": [f"{LOOPBACK}:{target}"]}],
            }
            for name, path, target in jobs
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [tools / "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={LOOPBACK}:{port}"],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    with httpx.Client(base_url=f"http://{LOOPBACK}:{port}/api/v1", trust_env=False, timeout=10) as client:
        try:
            assert wait_until(lambda: bool(query(client, 'up{job="tallyclerk"} == 1')), LIMIT_SECONDS), (
                folder / "log"
            ).read_text()
            yield client
        finally:
            process.terminate()
            process.wait(LIMIT_SECONDS)


def query(client: httpx.Client, expression: str) -> list[dict[str, Any]]:
    try:
        answer = client.get("/query", params={"query": expression})
    except httpx.TransportError:
        return []  # not up yet
    return answer.json()["data"]["result"] if answer.is_success else []


def firing(client: httpx.Client) -> dict[str, dict[str, str]]:
    return {each["labels"]["alertname"]: each["labels"] for each in client.get("/alerts").json()["data"]["alerts"]}


def test_the_rules_are_valid_and_each_says_what_to_do(tools: Path) -> None:
    done = subprocess.run([tools / "promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        assert {"summary", "description", "runbook"} <= set(rule["annotations"]), rule["alert"]


def test_each_rule_fires_beyond_its_threshold_and_not_at_it(tools: Path) -> None:
    edges = RULES.with_name("alerts_test.yml")
    done = subprocess.run([tools / "promtool", "test", "rules", edges], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_refer_only_to_metrics_that_are_told(tools: Path) -> None:
    told = {PREFIX + measure.name for measure in MEASURES}
    assert (
        set(
            re.findall(
                r"\btallyclerk_\w+",
                json.dumps([r["expr"] for r in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]]),
            )
        )
        <= told
    )


def test_the_scrape_tells_of_live_services(prometheus: httpx.Client) -> None:
    up = {each["metric"]["service"]: each["value"][1] for each in query(prometheus, "tallyclerk_up")}
    assert up == {"flink": "1", "connect": "1", "kafka": "1", "postgres": "1"}


@pytest.mark.parametrize(
    ("alert", "labels"),
    [
        ("LedgerDoesNotClose", {"dag": "shop", "task": "sales", "dataset": "sales"}),
        ("LoadTooOld", {"dag": "shop", "task": "sales"}),
        ("TooManyRejects", {"dag": "shop", "task": "sales"}),
        ("LayersDrift", {"dag": "shop", "task": "reconcile"}),
        ("TargetAway", {"job": "away"}),
    ],
)
def test_an_alert_fires_when_its_reason_is_there(prometheus: httpx.Client, alert: str, labels: dict[str, str]) -> None:
    def fires() -> bool:
        alerts = prometheus.get("/alerts").json()["data"]["alerts"]
        return any(each["labels"]["alertname"] == alert and each["labels"].items() >= labels.items() for each in alerts)

    assert wait_until(fires, LIMIT_SECONDS), firing(prometheus)


def test_the_alert_fires_when_a_drain_stays_behind(settings: Settings, prometheus: httpx.Client) -> None:
    name = f"monitoring_{uuid4().hex[:8]}"
    group, client = f"tallyclerk.{name}", security.kafka_client(settings)
    admin = AdminClient(client)
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(LIMIT_SECONDS)
    try:
        producer = Producer(client)
        for _ in range(10_001):
            producer.produce(name, b"x")
        assert producer.flush(LIMIT_SECONDS) == 0
        position = ConsumerGroupTopicPartitions(group, [TopicPartition(name, 0, 0)])
        admin.alter_consumer_group_offsets([position])[group].result(LIMIT_SECONDS)
        behind = f'ALERTS{{alertname="DrainBehind",topic="{name}",alertstate="firing"}}'
        assert wait_until(lambda: bool(query(prometheus, behind)), LIMIT_SECONDS), firing(prometheus)
        assert query(prometheus, f'tallyclerk_lag_rows{{topic="{name}"}}')[0]["value"][1] == "10001"
    finally:
        admin.delete_consumer_groups([group])[group].result(LIMIT_SECONDS)
        admin.delete_topics([name])[name].result(LIMIT_SECONDS)


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Bearer \u00e9"])
def test_a_scrape_is_refused_without_the_token(served: int, token: str) -> None:
    headers = {"Authorization": token.encode()} if token else {}
    answer = httpx.get(f"http://{LOOPBACK}:{served}/tallyclerk/metrics", headers=headers, trust_env=False)
    assert answer.status_code == 401
