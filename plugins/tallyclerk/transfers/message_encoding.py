"""How a contract's rows, and changes of them, become messages of a topic: one way for all who write to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import pyarrow as pa

    from tallyclerk.contracts import Contract
    from tallyclerk.sinks.kafka_encoding import MessageEncoder


def row_encoder(
    contract: Contract, topic: str, *, value_format: str, registry_conn_id: str, register: str
) -> MessageEncoder:
    """Of the contract's rows, derived columns included.

    :param value_format: ``avro`` or ``json``.
    :param register: see :class:`~tallyclerk.sinks.kafka_encoding.AvroEncoder`, which asks the registry here.
    """
    from tallyclerk.contracts.avro_projection import avro_schema
    from tallyclerk.contracts.projections import arrow_schema
    from tallyclerk.sinks.kafka_encoding import JsonEncoder

    schema = arrow_schema(contract)
    key = contract.kafka.key if contract.kafka else contract.primary_key
    if value_format == "json":
        return JsonEncoder(schema, key)
    return _avro_encoder(schema, key, topic, avro_schema(contract), registry_conn_id, register)


def change_encoder(
    contract: Contract, topic: str, *, value_format: str, registry_conn_id: str, register: str
) -> MessageEncoder:
    """As :func:`row_encoder`, of change events (:func:`~tallyclerk.contracts.changes.change_schema`)."""
    from tallyclerk.contracts.avro_projection import avro_schema_of
    from tallyclerk.contracts.changes import change_key, change_schema
    from tallyclerk.sinks.kafka_encoding import JsonEncoder

    schema, key = change_schema(contract), change_key(contract)
    if value_format == "json":
        return JsonEncoder(schema, key)
    uuids = {column.name for column in contract.source_columns if column.kind == "uuid"}
    avro = avro_schema_of(
        schema, name=f"{contract.dataset}_change", namespace=contract.namespace,
        types={name: {"type": "string", "logicalType": "uuid"} for name in uuids},
    )  # fmt: skip
    return _avro_encoder(schema, key, topic, avro, registry_conn_id, register)


def _avro_encoder(
    schema: pa.Schema, key: tuple[str, ...], topic: str, avro: Mapping[str, Any], registry_conn_id: str, register: str
) -> MessageEncoder:
    from tallyclerk.hooks.schema_registry import SchemaRegistryHook
    from tallyclerk.sinks.kafka_encoding import AvroEncoder
    from tallyclerk.sinks.schema_registry import SchemaRegistry

    hook = SchemaRegistryHook(registry_conn_id)
    registry = SchemaRegistry(hook.url, auth=hook.auth, verify=hook.ca_file or True)
    try:
        return AvroEncoder(
            schema, key, registry=registry, topic=topic, avro=avro, register=register,  # type: ignore[arg-type]
        )  # fmt: skip
    finally:
        registry.close()
