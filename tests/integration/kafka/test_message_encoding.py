"""The registry's say before the first byte, and Confluent's own deserializer over what was sent."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from stack.settings import ROOT
from tallyclerk.contracts import load_contract
from tallyclerk.contracts.avro_projection import avro_schema, avro_schema_of
from tallyclerk.contracts.projections import arrow_schema
from tallyclerk.exceptions import IncompatibleSchemaError, ServiceUnavailableError, SpecError
from tallyclerk.sinks.kafka_encoding import AvroEncoder, value_subject
from tallyclerk.sinks.schema_registry import SchemaRegistry, ensure_subject
from tests.integration.kafka.topic_case import SCHEMA, TopicCase, registry_url, rows

pytestmark = pytest.mark.integration

WIDER = pa.schema([*SCHEMA, pa.field("must", pa.string(), nullable=False)])


@pytest.fixture
def topic(registry: SchemaRegistry) -> Iterator[str]:
    """A name; its subject is deleted afterwards."""
    name = f"encoding-{uuid.uuid4().hex[:12]}"
    yield name
    client = SchemaRegistryClient({"url": registry.url})
    if value_subject(name) in client.get_subjects():
        client.delete_subject(value_subject(name))


def versions(topic: str) -> list[int]:
    client = SchemaRegistryClient({"url": registry_url()})
    subject = value_subject(topic)
    return client.get_versions(subject) if subject in client.get_subjects() else []


def deserialised(topic: str, values: list[bytes]) -> list[Any]:
    deserialize = AvroDeserializer(SchemaRegistryClient({"url": registry_url()}))
    return [deserialize(value, SerializationContext(topic, MessageField.VALUE)) for value in values]


def test_nothing_is_registered_when_nobody_asked_for_it(registry: SchemaRegistry, topic: str) -> None:
    with pytest.raises(SpecError, match="not registered under"):
        AvroEncoder(SCHEMA, ["id"], registry=registry, topic=topic)
    assert versions(topic) == []


def test_an_encoder_takes_the_id_when_the_schema_is_registered(registry: SchemaRegistry, topic: str) -> None:
    schema = avro_schema_of(SCHEMA, name="rows", namespace="tests")
    made = ensure_subject(registry, value_subject(topic), schema)
    assert ensure_subject(registry, value_subject(topic), schema) == made
    encoder = AvroEncoder(SCHEMA, ["id"], registry=registry, topic=topic, avro=schema)
    assert encoder.schema_id == made
    assert versions(topic) == [1]
    assert registry.schema(made) == registry.latest(value_subject(topic)) == schema


def test_a_compatible_schema_is_registered_when_that_was_asked_for(registry: SchemaRegistry, topic: str) -> None:
    wider = pa.schema([*SCHEMA, pa.field("note", pa.string())])
    AvroEncoder(SCHEMA, ["id"], registry=registry, topic=topic, register="if_compatible")
    AvroEncoder(wider, ["id"], registry=registry, topic=topic, register="if_compatible")
    assert versions(topic) == [1, 2]


@pytest.mark.parametrize("register", ["never", "if_compatible"])
def test_an_encoder_is_refused_when_readers_would_break(registry: SchemaRegistry, topic: str, register: Any) -> None:
    AvroEncoder(SCHEMA, ["id"], registry=registry, topic=topic, register="if_compatible")
    with pytest.raises(IncompatibleSchemaError, match=r"'must' is new and has no default.*write to a new topic"):
        AvroEncoder(WIDER, ["id"], registry=registry, topic=topic, register=register)
    assert versions(topic) == [1]


def test_the_registrys_refusal_is_told_when_a_schema_is_registered_regardless(
    registry: SchemaRegistry, topic: str
) -> None:
    AvroEncoder(SCHEMA, ["id"], registry=registry, topic=topic, register="if_compatible")
    name = topic.replace("-", "_")
    with pytest.raises(IncompatibleSchemaError, match="must at /fields/2"):
        registry.register(value_subject(topic), avro_schema_of(WIDER, name=name, namespace=None))


def test_an_encoder_is_refused_when_its_avro_record_is_of_other_columns(registry: SchemaRegistry, topic: str) -> None:
    other = avro_schema_of(WIDER, name="rows", namespace=None)
    with pytest.raises(SpecError, match="make them equal"):
        AvroEncoder(SCHEMA, ["id"], registry=registry, topic=topic, avro=other, register="if_compatible")
    other = {**other, "fields": [*other["fields"][:1], {"name": "n", "type": "long"}]}
    with pytest.raises(SpecError, match="the Avro type is long"):
        AvroEncoder(SCHEMA, ["id"], registry=registry, topic=topic, avro=other, register="if_compatible")
    assert versions(topic) == []


def test_an_encoder_says_so_when_the_registry_is_away(topic: str) -> None:
    away = SchemaRegistry("http://clerk:very-secret@127.0.0.1:9/apis/ccompat/v7", retries=0)
    with pytest.raises(ServiceUnavailableError, match=r"schema registry at http://127\.0\.0\.1:9/") as caught:
        AvroEncoder(SCHEMA, ["id"], registry=away, topic=topic)
    assert "very-secret" not in str(caught.value)


def test_confluents_deserializer_reads_a_contracts_rows_when_their_values_are_hostile(
    registry: SchemaRegistry, topic: str, tmp_path: Path
) -> None:
    text = (ROOT / "include" / "contracts" / "transactions.odcs.yaml").read_text(encoding="utf-8")
    contract = load_contract(ROOT / "include" / "contracts" / "transactions.odcs.yaml")
    assert "decimal(12,2)" in text
    hostile: dict[str, list[Any]] = {
        "string": ["", 'Grüße "\\\n\t\x00 🧾', "x" * 20_000],
        "bool": [True, False, True],
        "int16": [-(2**15), 0, 2**15 - 1],
        "int32": [-(2**31), -1, 2**31 - 1],
        "int64": [-(2**63), 63, 2**63 - 1],
        "decimal128(12, 2)": [Decimal("-9999999999.99"), Decimal("0.00"), Decimal("-1.28")],
        "double": [math.inf, -0.0, 5e-324],
        "date32[day]": [date(1, 1, 1), date(1969, 12, 31), date(9999, 12, 31)],
        "timestamp[us, tz=UTC]": [datetime(1, 1, 2, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), datetime(9999, 12, 30, tzinfo=UTC)],
        "binary": [b"", b"\x00\xff", b"\x80" * 300],
    }  # fmt: skip
    schema = arrow_schema(contract)
    uuids = [str(uuid.UUID(int=number)) for number in (0, 2**127, 2**128 - 1)]
    values = {
        field.name: uuids if contract.column(field.name).kind == "uuid" else list(hostile[str(field.type)])
        for field in schema
    }
    for field in schema:
        if field.nullable:
            values[field.name][1] = None
    table = pa.table(values, schema=schema)
    encoder = AvroEncoder(
        schema, ["transaction_id"], registry=registry, topic=topic, avro=avro_schema(contract), register="if_compatible"
    )
    messages = encoder.encode(table)
    wanted = [{**row, "transaction_id": uuid.UUID(row["transaction_id"])} for row in table.to_pylist()]
    assert deserialised(topic, messages.values.to_pylist()) == wanted
    assert messages.keys.to_pylist() == [text.encode() for text in uuids]
    registered = json.loads(
        SchemaRegistryClient({"url": registry.url}).get_latest_version(value_subject(topic)).schema.schema_str
    )
    assert (registered["name"], registered["namespace"]) == ("transactions", "pipeline.retail")


def test_rows_read_back_are_those_sent_when_a_load_was_written_as_avro(
    case: TopicCase, registry: SchemaRegistry
) -> None:
    encoder = AvroEncoder(SCHEMA, ["id"], registry=registry, topic=case.name, register="if_compatible")
    try:
        with case.sink(encoder=encoder) as sink:
            sink.commit(rows(500), case.receipt(500), complete=True)
        found = deserialised(case.name, [message.value or b"" for message in case.messages()])
        assert sorted(found, key=lambda row: row["n"]) == rows(500).to_pylist()
    finally:
        SchemaRegistryClient({"url": registry.url}).delete_subject(value_subject(case.name))


def test_confluents_client_finds_the_same_id_when_it_looks_up_our_schema(registry: SchemaRegistry, topic: str) -> None:
    schema = avro_schema_of(SCHEMA, name="rows", namespace="tests")
    made = ensure_subject(registry, value_subject(topic), schema)
    client = SchemaRegistryClient({"url": registry.url})
    assert client.lookup_schema(value_subject(topic), Schema(json.dumps(schema), "AVRO")).schema_id == made
