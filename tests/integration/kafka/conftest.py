"""The running broker and registry, and topics and subjects of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tallyclerk.sinks.schema_registry import SchemaRegistry
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers, registry_url


@pytest.fixture
def case() -> Iterator[TopicCase]:
    made = TopicCase(bootstrap_servers())
    made.create()
    yield made
    made.delete()


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    made = SchemaRegistry(registry_url())
    yield made
    made.close()
