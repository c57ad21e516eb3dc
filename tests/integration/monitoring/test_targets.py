"""Prometheus, with the configuration that the service gets, scrapes every target of the running stack."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from stack.processes import wait_until
from stack.services import SERVICES, prometheus
from stack.settings import LOOPBACK, Settings, load_settings
from tallyclerk.hooks.flink import FlinkHook
from tests.own_prometheus import LIMIT_SECONDS, Prometheus, own_prometheus

pytestmark = pytest.mark.integration
# a job that never ends, with checkpoints: without one the JobManager has nothing to tell of them
JOB = """SET 'pipeline.name' = '{name}';
SET 'execution.checkpointing.interval' = '1 s';
CREATE TABLE ticks (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1');
CREATE TABLE nothing (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO nothing SELECT n FROM ticks;
"""
TOLD = {
    "kafka": "kafka_messages_in_total",
    "cassandra": 'cassandra_request_seconds{request="Write",quantile="0.99"}',
    "connect": "connect_connectors",
    "registry": "http_server_requests_seconds_count",
    "flink-jobmanager": "flink_job_checkpoint_seconds",
    "flink-taskmanager": "jvm_memory_used_bytes",
    "hdfs-namenode": "fs_namesystem_capacity_total > 0",
    "hdfs-datanode": "jvm_metrics_mem_heap_used_m",
    "spark-master": "metrics_master_aliveWorkers_Value == 1",
    "spark-worker": "metrics_worker_memFree_MB_Value",
    "tallyclerk": 'tallyclerk_up{service="kafka"} == 1',
}
"""Of each target something that it must tell."""


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


def test_every_target_is_up_and_tells_what_it_is_scraped_for(
    scraped: Prometheus, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = f'{{"conn_type": "flink", "host": "{LOOPBACK}", "port": {settings.port("FLINK")}}}'
    monkeypatch.setenv("AIRFLOW_CONN_FLINK_DEFAULT", connection)
    hook, job_id = FlinkHook(), uuid.uuid4().hex
    name = f"monitoring_{job_id[:8]}"
    (jar,) = settings.jars("flink").glob("flink-sql-gateway-*.jar")
    assert hook.run(hook.uploaded_jar(jar), JOB.format(name=name), job=name, job_id=job_id)
    try:
        untold = dict(TOLD)

        def all_told() -> bool:
            for target, expression in list(untold.items()):
                if scraped.query(expression):
                    del untold[target]
            return not untold

        assert wait_until(all_told, LIMIT_SECONDS, poll_seconds=1), untold
        states = {each["metric"]["job"]: each["value"][1] for each in scraped.query("up")}
        assert states == dict.fromkeys(TOLD, "1")
        completed = f'flink_job_checkpoints_total{{flink_job="{name}"}} > 0'
        assert wait_until(lambda: bool(scraped.query(completed)), LIMIT_SECONDS, poll_seconds=1)
    finally:
        hook.cancel(job_id)
