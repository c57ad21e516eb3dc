"""Prometheus, with the configuration that the service gets, scrapes every target of the running stack."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from airflow.utils.session import create_session

from docs.generate.metrics import exported
from stack.processes import wait_until
from stack.services import SERVICES, prometheus
from stack.settings import LOOPBACK, Settings, load_settings
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.monitoring.measures import MEASURES, PREFIX
from tallyclerk.ui.loads import newest_loads
from tests.own_prometheus import LIMIT_SECONDS, Prometheus, own_prometheus

pytestmark = pytest.mark.integration
# a job that never ends: while there is none the JobManager has nothing to tell of checkpoints; it may wait for a slot
JOB = """SET 'pipeline.name' = '{name}';
CREATE TABLE ticks (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1');
CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO nothing SELECT n FROM ticks;
"""
TOLD = {
    "kafka": "kafka_messages_in_total",
    "cassandra": 'cassandra_request_seconds{request="Write",quantile="0.99"}',
    "connect": "connect_connectors",
    "registry": "agroal_acquire_count_total",
    "flink-jobmanager": "flink_job_checkpoint_seconds",
    "flink-taskmanager": "jvm_memory_used_bytes",
    "hdfs-namenode": "fs_namesystem_capacity_total > 0",
    "hdfs-datanode": "jvm_metrics_mem_heap_used_m",
    "spark-master": "metrics_master_aliveWorkers_Value == 1",
    "spark-worker": "metrics_worker_memFree_MB_Value",
    "tallyclerk": 'tallyclerk_up{service="kafka"} == 1',
}
"""Of each target something that it must tell."""
WORDS = {"sum", "max", "count", "rate", "vector", "or"}
"""Of PromQL, in the dashboards."""


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def scraped(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that scrapes as configured, only more often."""
    folder: Path = tmp_path_factory.mktemp("prometheus")
    own = replace(settings, home=folder)
    prometheus.configure(own)
    prometheus.write_token(own)
    config = yaml.safe_load((own.rendered_conf / "prometheus" / "prometheus.yml").read_text())
    for target in config["scrape_configs"]:
        target.pop("scrape_timeout", None)
    with own_prometheus(folder, config["scrape_configs"], interval="10s") as running:
        yield running


def test_every_service_that_has_a_port_is_a_target(settings: Settings, tmp_path: Path) -> None:
    prometheus.configure(replace(settings, home=tmp_path))
    config = yaml.safe_load((tmp_path / "conf" / "prometheus" / "prometheus.yml").read_text())
    targets = {target for each in config["scrape_configs"] for target in each["static_configs"][0]["targets"]}
    # PostgreSQL and the shop have nothing to scrape; the endpoint of Airflow tells whether PostgreSQL answers
    silent = {"postgres", "shop", "prometheus"}
    scraped = {
        service.name
        for service in SERVICES
        if targets & {f"{LOOPBACK}:{settings.port(port)}" for port in service.ports}
    }
    assert scraped == {service.name for service in SERVICES if service.ports} - silent
    assert len(targets) == len(scraped) == len(TOLD)


@pytest.fixture(scope="module")
def told(scraped: Prometheus, settings: Settings) -> Iterator[dict[str, str]]:
    """What no target has told within the limit, while a job runs whose checkpoints the JobManager tells of."""
    with pytest.MonkeyPatch.context() as patch:
        flink = {"conn_type": "flink", "host": LOOPBACK, "port": settings.port("FLINK")}
        patch.setenv("AIRFLOW_CONN_FLINK_DEFAULT", json.dumps(flink))
        hook, job_id = FlinkHook(), uuid.uuid4().hex
        name = f"monitoring_{job_id[:8]}"
        (jar,) = settings.jars("flink").glob("flink-sql-gateway-*.jar")
        assert hook.run(hook.uploaded_jar(jar), JOB.format(name=name), job=name, job_id=job_id)
        untold = {**TOLD, "checkpoint": f'flink_job_checkpoints_total{{flink_job="{name}"}}'}

        def all_told() -> bool:
            for target, expression in list(untold.items()):
                if scraped.query(expression):
                    del untold[target]
            return not untold

        try:
            wait_until(all_told, 2 * LIMIT_SECONDS, poll_seconds=1)
            yield untold
        finally:
            hook.cancel(job_id)


def test_every_target_is_up_and_tells_what_it_is_scraped_for(scraped: Prometheus, told: dict[str, str]) -> None:
    assert told == {}
    states = {each["metric"]["job"]: each["value"][1] for each in scraped.query("up")}
    assert states == dict.fromkeys(TOLD, "1")


def test_every_load_that_airflow_knows_has_its_rows(scraped: Prometheus, told: dict[str, str]) -> None:
    with create_session() as session:
        known = {(load.dag_id, load.task_id, load.dataset): load.receipt.ledger.read for load in newest_loads(session)}

    def rows() -> dict[tuple[str, ...], float]:
        found = scraped.query('tallyclerk_load_rows{outcome="read"}')
        return {
            (each["metric"]["dag"], each["metric"]["task"], each["metric"]["dataset"]): float(each["value"][1])
            for each in found
        }

    assert wait_until(lambda: known.keys() <= rows().keys(), LIMIT_SECONDS, poll_seconds=1), (
        known.keys() - rows().keys()
    )


def expressions() -> Iterator[tuple[str, str]]:
    """Of each panel of each dashboard: where it stands, and what it asks for."""
    for path in sorted((load_settings().conf / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{path.stem}: {panel['title']}", target["expr"]


def test_every_panel_asks_for_what_is_told(scraped: Prometheus, told: dict[str, str]) -> None:
    found = set(scraped.get("/label/__name__/values"))
    # what is only told while there is a connector, a drift or a load
    declared = {PREFIX + measure.name for measure in MEASURES} | {name for name, _, _ in exported()} | {"ALERTS"}
    asked = list(expressions())
    assert len({place.partition(":")[0] for place, _ in asked}) == 3
    for place, expression in asked:
        assert scraped.get("/query", query=expression) is not None, f"{place}: {expression} is no PromQL"
        named = set(re.findall(r"\b[a-zA-Z_]\w+", re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(?:by|on) \([^)]*\)", "", expression)))
        metrics = named - WORDS
        assert metrics, f"{place}: {expression}"
        assert metrics <= found | declared, f"{place} asks for {metrics - found - declared}, which nobody tells"
