"""The running Connect, and for each test connectors, a table, a publication, a slot and topics of its own."""

import json
from collections.abc import Iterator

import pytest

from stack.services import connect, registry
from stack.settings import LOOPBACK, Settings, load_settings
from tallyclerk.hooks.kafka_connect import KafkaConnectHook
from tests.integration.connect.captured_table import CapturedTable


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(autouse=True)
def connections(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of airflow_settings.yaml."""
    stated = {
        "SHOP_DB": {
            "conn_type": "postgres",
            "host": LOOPBACK,
            "port": settings.port("POSTGRES"),
            "schema": "retail",
            "login": "retail",
            "password": settings.secret("RETAIL_DB_PASSWORD"),
        },
        "CONNECT_DEFAULT": {
            "conn_type": "http",
            "host": LOOPBACK,
            "port": settings.port("CONNECT"),
            "extra": {"secrets_folder": str(settings.connect_secrets)},
        },
        "SCHEMA_REGISTRY_DEFAULT": {
            "conn_type": "http",
            "host": LOOPBACK,
            "port": settings.port("REGISTRY"),
            "extra": {"path": "/apis/ccompat/v7"},
        },
    }
    for name, connection in stated.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(connection))


@pytest.fixture
def hook() -> KafkaConnectHook:
    return KafkaConnectHook()


@pytest.fixture
def table(settings: Settings) -> Iterator[CapturedTable]:
    with CapturedTable.made(settings, connect.url(settings), registry.url(settings)) as table:
        yield table
