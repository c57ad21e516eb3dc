"""A scrape is answered in time, whatever the services do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from stack.settings import LOOPBACK
from tallyclerk.monitoring import measures, services
from tallyclerk.monitoring.measures import Measured

SCRAPE_SECONDS = 20  # prometheus.yml.in


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of something that takes connections and says nothing."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


def told(found: Measured) -> dict[str, float]:
    return {service: value for (service,), value in found.values[measures.UP].items()}


def test_a_silent_service_is_away_and_the_scrape_in_time(silent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bootstrap = {"extra": {"bootstrap.servers": f"{LOOPBACK}:{silent}"}}
    for name, facts in {
        "FLINK_DEFAULT": {"conn_type": "flink"},
        "CONNECT_DEFAULT": {"conn_type": "http"},
        "KAFKA_DEFAULT": {"conn_type": "kafka", **bootstrap},
        "SHOP_DB": {"conn_type": "postgres", "schema": "retail", "login": "retail", "password": "x"},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps({"host": LOOPBACK, "port": silent, **facts}))
    started = time.monotonic()
    assert told(services.measure_services()) == {"flink": 0, "connect": 0, "kafka": 0, "postgres": 0}
    assert time.monotonic() - started < SCRAPE_SECONDS


def test_a_service_that_does_not_end_is_away_and_the_others_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "LIMIT_SECONDS", 0.2)
    end = threading.Event()

    def endless() -> Measured:
        end.wait()
        return Measured()

    try:
        assert told(services.measure_services({"slow": endless, "quick": Measured})) == {"slow": 0, "quick": 1}
    finally:
        end.set()
