"""Gauges go where Airflow's own metrics go, once its configuration says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils

from tallyclerk.operators.metrics import tell


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A StatsD server's socket, and Airflow told of it as docs/how-to/monitoring.md tells it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        host, port = server.getsockname()
        for name, value in {"ON": "True", "HOST": host, "PORT": str(port), "PREFIX": "airflow"}.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__STATSD_{name}", value)
        yield server
    monkeypatch.undo()
    _initialize()


def _initialize() -> None:
    """As the task runner does it before each task."""
    stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=True)


def test_a_gauge_comes_in_a_packet_when_statsd_is_on(statsd: socket.socket) -> None:
    _initialize()
    tell("customer_kpis_speed", {"lag_rows": 17.0, "freshness_seconds": 1.5})
    assert {statsd.recv(512).decode() for _ in range(2)} == {
        "airflow.tallyclerk.customer_kpis_speed.lag_rows:17.0|g",
        "airflow.tallyclerk.customer_kpis_speed.freshness_seconds:1.5|g",
    }
