"""A real Prometheus scrapes the application of the page, and the committed rules fire on what really goes wrong: a damaged file, layers that
differ, a connector that fails, a drain that stays behind, a target that is away. Only a ledger that does not close is made by hand: nothing
that happens can cause it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import httpx
import pytest
import uvicorn
import yaml
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from docs.generate.metrics import exported
from include.shop import landing
from include.shop.trading_days import TradingDays
from stack import security
from stack.processes import wait_until
from stack.prometheus import ensure_prometheus
from stack.services import connect, registry
from stack.settings import LOOPBACK, ROOT, Settings, load_settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import ConnectorFailedError
from tallyclerk.monitoring.loads import measure_loads
from tallyclerk.monitoring.measures import MEASURES, PREFIX
from tallyclerk.operators.connector import ConnectorOperator
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tallyclerk.ui.app import application
from tallyclerk.ui.loads import Comparison, Load, window_end
from tests.integration.cassandra.reconciled_day import reconciled_day
from tests.integration.connect.captured_table import CapturedTable, set_connections
from tests.own_prometheus import LIMIT_SECONDS, RULES, Prometheus, own_prometheus, rules_at_once
from tests.running import RunTask
from tests.second_stack import free_ports

pytestmark = pytest.mark.integration
DAMAGED = date(2026, 3, 10)
LOWERED = {"HdfsAlmostFull": ("< 0.1", "< 1")}
"""What stands in an alert's expression, and in its place here: nobody fills a disk for a test."""


@dataclass
class Told:
    """What tasks have returned so far, as the endpoint would read it from Airflow."""

    loads: list[Load] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)

    def text(self) -> str:
        return measure_loads(self.loads, self.comparisons, datetime.now(UTC)).text().decode()

    def load(self, task: str, receipt: Receipt) -> None:
        until = window_end(receipt.window)
        self.loads.append(Load("shop", task, "run", -1, datetime.now(UTC), receipt, until))


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def tools(settings: Settings) -> Path:
    return ensure_prometheus(settings)


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def served(told: Told) -> Iterator[int]:
    """The application, on a port of its own, and beside it what the tests' own tasks have told."""
    (port,) = free_ports(1)
    app = FastAPI()
    app.get("/told")(lambda: PlainTextResponse(told.text()))
    app.mount("/tallyclerk", application())
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert wait_until(lambda: server.started, LIMIT_SECONDS)
    yield port
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def prometheus(settings: Settings, served: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It scrapes both every two seconds, HDFS, and a target that is away."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "token").write_text(settings.secret("METRICS_TOKEN"))
    (away,) = free_ports(1)
    jobs = (("tallyclerk", "/tallyclerk/metrics", served), ("told", "/told", served), ("away", "/metrics", away),
            ("hdfs-namenode", "/prom", settings.port("HDFS_HTTP")))  # fmt: skip
    scraped = [
        {
            "job_name": name,
            "metrics_path": path,
            "authorization": {"credentials_file": "token"},
            "static_configs": [{"targets": [f"{LOOPBACK}:{target}"]}],
        }
        for name, path, target in jobs
    ]
    with own_prometheus(folder, scraped, rules_at_once(LOWERED), interval="2s") as running:
        assert wait_until(lambda: bool(running.query('up{job="tallyclerk"} == 1')), LIMIT_SECONDS)
        yield running


def test_the_rules_are_valid_and_each_says_what_to_do(tools: Path) -> None:
    done = subprocess.run([tools / "promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]:
        assert {"summary", "description", "runbook"} <= set(rule["annotations"]), rule["alert"]
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert anchor == rule["alert"].lower()
        assert f"\n### {rule['alert']}\n" in (ROOT / page).read_text()


def test_each_rule_fires_beyond_its_threshold_and_not_at_it(tools: Path) -> None:
    edges = RULES.with_name("alerts_test.yml")
    done = subprocess.run([tools / "promtool", "test", "rules", edges], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_refer_only_to_metrics_that_are_told() -> None:
    told = {PREFIX + measure.name for measure in MEASURES} | {name for name, _, _ in exported()}
    expressions = json.dumps([rule["expr"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]])
    named = set(re.findall(r"\b(?:tallyclerk|kafka|cassandra|connect|flink)_\w+", expressions))
    assert named - {"flink_job"} <= told


def test_the_scrape_tells_of_live_services(prometheus: Prometheus) -> None:
    up = {each["metric"]["service"]: each["value"][1] for each in prometheus.query("tallyclerk_up")}
    assert up == {"flink": "1", "connect": "1", "kafka": "1", "postgres": "1"}


def test_the_alert_fires_when_a_target_is_away(prometheus: Prometheus) -> None:
    assert prometheus.fires("TargetAway", job="away"), prometheus.firing()


def test_the_alert_fires_when_a_receipt_does_not_close(told: Told, prometheus: Prometheus) -> None:
    told.load("torn", Receipt("sales", "2026-01-31", Ledger(read=100, written=90, rejected=5), "hdfs://host/sales"))
    assert prometheus.fires("LedgerDoesNotClose", dag="shop", task="torn", dataset="sales"), prometheus.firing()


def test_the_alert_fires_when_hdfs_has_less_left_than_it_may(prometheus: Prometheus) -> None:
    assert prometheus.fires("HdfsAlmostFull", job="hdfs-namenode"), prometheus.firing()
    firing = 'ALERTS{alertname="HdfsAlmostFull",alertstate="firing"}'
    (left,) = prometheus.query(f"{firing} * on (job) group_left fs_namesystem_capacity_remaining")
    disk = shutil.disk_usage(load_settings().data)
    # both are of the same disk, a moment apart
    assert float(left["value"][1]) == pytest.approx(disk.free, rel=0.1)


@pytest.fixture
def damaged(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CsvToHdfsOperator]:
    """The load of a day long ago, two of a hundred of whose lines have a sum that is none."""
    from hdfs_native import Client

    landing.export_days(TradingDays(date(2026, 3, 11)), tmp_path, last=1)
    (path,) = tmp_path.glob("*.csv")
    lines = path.read_text().splitlines(keepends=True)
    place = lines[0].rstrip().split(",").index("sales_value")
    for number in range(1, len(lines), 50):
        fields = lines[number].split(",")
        fields[place] = "dear"
        lines[number] = ",".join(fields)
    path.write_text("".join(lines))
    hdfs = {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}}
    monkeypatch.setenv("AIRFLOW_CONN_HDFS_DEFAULT", json.dumps(hdfs))
    monkeypatch.setenv("AIRFLOW_CONN_FS_LANDING", json.dumps({"conn_type": "fs", "extra": {"path": str(tmp_path)}}))
    folder = f"/tmp/tests/monitoring/{uuid.uuid4().hex}"
    yield CsvToHdfsOperator(
        task_id="damaged", contract=str(ROOT / "include" / "contracts" / "transactions.odcs.yaml"),
        target=f"{folder}/sales", quarantine=f"{folder}/quarantine", row_filters=["sales_value > 0"],
    )  # fmt: skip
    Client(f"hdfs://{LOOPBACK}:{settings.port('HDFS')}").delete(folder, recursive=True)


def test_the_alerts_fire_when_a_damaged_file_of_long_ago_is_the_newest_load(
    damaged: CsvToHdfsOperator, told: Told, prometheus: Prometheus, run_task: RunTask
) -> None:
    receipt = Receipt.from_dict(run_task(damaged, conf={"date": DAMAGED.isoformat()}).value)
    assert 0.01 < receipt.ledger.rejected / receipt.ledger.read < 0.03
    told.load("damaged", receipt)
    for alert in ("TooManyRejects", "LoadTooOld"):
        assert prometheus.fires(alert, task="damaged", dataset=receipt.dataset), prometheus.firing()


def test_the_alert_fires_when_the_layers_got_other_sales(
    told: Told, prometheus: Prometheus, run_task: RunTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reconciled_day(monkeypatch, run_task) as reconciled:
        sales = reconciled.sales(16)
        reconciled.batch(sales)
        reconciled.stream(sales[2:])  # two of eight customers bought more than the speed layer has heard of
        facts = reconciled.found(details=None, on_drift="warn")
        day = reconciled.day.isoformat()
    told.comparisons.append(Comparison("shop", "drifting", day, datetime.now(UTC), facts["status"], facts))
    assert prometheus.fires("LayersDrift", task="drifting"), prometheus.firing()
    (drift,) = prometheus.query('tallyclerk_drift_rows{task="drifting"}')
    assert drift["value"][1] == "2"


def test_the_alert_fires_when_a_connector_fails(
    settings: Settings, prometheus: Prometheus, run_task: RunTask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_connections(settings, monkeypatch)
    with CapturedTable.made(settings, connect.url(settings), registry.url(settings)) as table:
        table.database.execute(f"DROP PUBLICATION {table.name}")
        declared = ConnectorOperator(
            task_id="connector", connector=table.name, config=table.config(tmp_path), settle_seconds=2, restart_budget=0
        )
        with pytest.raises(ConnectorFailedError):
            run_task(declared)
        assert prometheus.fires("ConnectorFailed", connector=table.name), prometheus.firing()


def test_the_alert_fires_when_a_drain_stays_behind(settings: Settings, prometheus: Prometheus) -> None:
    name = f"monitoring_{uuid.uuid4().hex[:8]}"
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
        assert prometheus.fires("DrainBehind", topic=name), prometheus.firing()
        assert prometheus.query(f'tallyclerk_lag_rows{{topic="{name}"}}')[0]["value"][1] == "10001"
    finally:
        admin.delete_consumer_groups([group])[group].result(LIMIT_SECONDS)
        admin.delete_topics([name])[name].result(LIMIT_SECONDS)


@pytest.mark.parametrize("token", ["", "Bearer", "Bearer wrong", "Bearer \u00e9"])
def test_a_scrape_is_refused_without_the_token(served: int, token: str) -> None:
    headers = {"Authorization": token.encode()} if token else {}
    answer = httpx.get(f"http://{LOOPBACK}:{served}/tallyclerk/metrics", headers=headers, trust_env=False)
    assert answer.status_code == 401
