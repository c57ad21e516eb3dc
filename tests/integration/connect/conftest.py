"""The running Connect, and for each test connectors, a table, a publication, a slot and topics of its own."""

from collections.abc import Iterator

import pytest

from stack.services import connect, registry
from stack.settings import Settings, load_settings
from tallyclerk.hooks.kafka_connect import KafkaConnectHook
from tests.integration.connect.captured_table import CapturedTable, set_connections


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(autouse=True)
def connections(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    set_connections(settings, monkeypatch)


@pytest.fixture
def hook() -> KafkaConnectHook:
    return KafkaConnectHook()


@pytest.fixture
def table(settings: Settings) -> Iterator[CapturedTable]:
    with CapturedTable.made(settings, connect.url(settings), registry.url(settings)) as table:
        yield table
