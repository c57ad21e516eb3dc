"""Prometheus, for who wants it: `make up ONLY=prometheus`. It scrapes every service and evaluates the alerts' rules."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stack.health import answers
from stack.prometheus import ensure_prometheus
from stack.render import render, write_secret
from stack.service import Service
from stack.settings import Settings

_RETENTION = "15d"
_TARGETS: Mapping[str, tuple[str, str]] = {
    "AIRFLOW": ("AIRFLOW", "AIRFLOW"),
    "KAFKA": ("KAFKA", "KAFKA_METRICS"),
    "CASSANDRA": ("CASSANDRA", "CASSANDRA_METRICS"),
    "CONNECT": ("CONNECT", "CONNECT_METRICS"),
    "REGISTRY": ("REGISTRY", "REGISTRY_MANAGEMENT"),
    "FLINK_JOBMANAGER": ("FLINK", "FLINK_METRICS"),
    "FLINK_TASKMANAGER": ("FLINK_TASKMANAGER", "FLINK_TASKMANAGER_METRICS"),
    "HDFS_NAMENODE": ("HDFS", "HDFS_HTTP"),
    "HDFS_DATANODE": ("HDFS_DATANODE", "HDFS_DATANODE_HTTP"),
    "SPARK_MASTER": ("SPARK_MASTER", "SPARK_UI"),
    "SPARK_WORKER": ("SPARK_WORKER", "SPARK_WORKER_UI"),
}
"""Host and port of each target by its name in `prometheus.yml.in`."""


def url(settings: Settings) -> str:
    return f"http://{settings.address('PROMETHEUS')}"


def token_file(settings: Settings) -> Path:
    """Where Prometheus finds what it shows to the API server; in a container the secret is mounted there."""
    return settings.home / "secrets" / "prometheus" / "token"


def _conf(settings: Settings) -> Path:
    return settings.rendered_conf / "prometheus"


def configure(settings: Settings) -> None:
    """Writes the configuration with all targets, and the rules beside it."""
    values = {name: f"{settings.host(host)}:{settings.port(port)}" for name, (host, port) in _TARGETS.items()}
    source = settings.conf / "prometheus"
    target = _conf(settings) / "prometheus.yml"
    render(source / "prometheus.yml.in", target, {**values, "TOKEN_FILE": token_file(settings)})
    (_conf(settings) / "alerts.yml").write_text((source / "alerts.yml").read_text())


def write_token(settings: Settings) -> None:
    write_secret(token_file(settings), settings.secret("METRICS_TOKEN"))


def _prepare(settings: Settings) -> None:
    write_token(settings)
    ensure_prometheus(settings)


def _command(settings: Settings) -> list[str]:
    return [
        str(ensure_prometheus(settings) / "prometheus"),
        f"--config.file={_conf(settings)}/prometheus.yml",
        f"--storage.tsdb.path={settings.data}/prometheus",
        f"--storage.tsdb.retention.time={_RETENTION}",
        f"--web.listen-address={settings.listen('PROMETHEUS')}:{settings.port('PROMETHEUS')}",
    ]


PROMETHEUS = Service(
    name="prometheus",
    group="prometheus",
    optional=True,
    ports=("PROMETHEUS",),
    configure=configure,
    prepare=_prepare,
    command=_command,
    healthy=lambda settings, since: answers(f"{url(settings)}/-/ready"),
    memory_mb=150,
    url=url,
)
