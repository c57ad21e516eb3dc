"""kill -9 of the schema registry: a load under way goes on, one that begins is to be retried, and no schema is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from stack.service import select
from stack.services import SERVICES, registry
from stack.services.registry import REGISTRY
from stack.settings import LOOPBACK
from stack.supervisor import Supervisor
from tallyclerk.exceptions import ServiceUnavailableError
from tallyclerk.sinks.kafka_encoding import AvroEncoder
from tallyclerk.sinks.schema_registry import SchemaRegistry
from tests.faults.dying_kafka_load import PAGE_ROWS, PAGES, load
from tests.integration.kafka.topic_case import SCHEMA, TopicCase
from tests.second_stack import kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with second_stack(tmp_path_factory.mktemp("second-registry"), "kafka", "registry", KAFKA_HEAP="320m") as stack:
        yield stack


def test_each_row_is_there_once_under_one_schema_when_the_registry_is_killed(instance: Supervisor) -> None:
    case = TopicCase(f"{LOOPBACK}:{instance.settings.port('KAFKA')}")
    case.create()
    schemas = SchemaRegistry(registry.url(instance.settings))

    def encoder() -> AvroEncoder:
        return AvroEncoder(SCHEMA, ["id"], registry=schemas, topic=case.name, register="if_compatible")

    under_way = encoder()
    kill(instance, REGISTRY)
    with pytest.raises(ServiceUnavailableError, match="registry"):
        encoder()
    receipt, _ = load(case, encoder=under_way)
    assert receipt.ledger.written == PAGES * PAGE_ROWS

    instance.up(select(SERVICES, ["registry"]))
    assert encoder().schema_id == under_way.schema_id
    read = AvroDeserializer(SchemaRegistryClient({"url": registry.url(instance.settings)}))
    context = SerializationContext(case.name, MessageField.VALUE)
    numbers = sorted(read(message.value, context)["n"] for message in case.messages())
    assert numbers == list(range(PAGES * PAGE_ROWS))
