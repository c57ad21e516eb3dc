"""A contract's columns, or an Arrow schema's, as an Avro record (Avro 1.12 specification).

============================ ================================================================
Arrow                        Avro
============================ ================================================================
string                       string; of a contract's uuid column: string with logical type uuid
bool                         boolean
int8 … int32, uint8, uint16  int
int64, uint32                long
float, double                float, double
decimal128(p, s)             bytes with logical type decimal(p, s)
date32                       int with logical type date
timestamp, any unit or zone  long with logical type timestamp-micros: without a zone it means UTC
binary                       bytes
============================ ================================================================

A field that may be null is a union ``["null", T]`` with default null, so that adding one is a compatible change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.projections import arrow_schema
from tallyclerk.exceptions import SpecErrors

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def avro_schema(contract: Contract, *, derived: bool = True) -> dict[str, Any]:
    """The record of a contract's rows; its name is the data set, its namespace the contract's.

    :param derived: with the derived columns, as :func:`~tallyclerk.contracts.projections.arrow_schema`.
    :raises SpecErrors: a name that Avro does not allow.
    """
    uuids = {column.name for column in contract.columns if column.kind == "uuid"}
    return avro_schema_of(
        arrow_schema(contract, derived=derived),
        name=contract.dataset,
        namespace=contract.namespace,
        types={name: {"type": "string", "logicalType": "uuid"} for name in uuids},
    )


def avro_schema_of(
    schema: pa.Schema, *, name: str, namespace: str | None, types: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The record of an Arrow schema's rows.

    :param types: Avro types that an Arrow type cannot say, by column.
    :raises SpecErrors: names that Avro does not allow, and columns of types without an Avro form; all at once.
    """
    stated = types or {}
    findings, fields = [], []
    for each in (name, *(schema.names)):
        if not _NAME.fullmatch(each):
            findings.append(f"{name}: {each!r} is no Avro name; use letters, digits and _, and begin with no digit")
    for field in schema:
        kind = stated.get(field.name) or avro_type(field.type)
        if kind is None:
            findings.append(f"{name}.{field.name}: {field.type} has no Avro form here; cast it to text before")
        elif field.nullable:
            fields.append({"name": field.name, "type": ["null", kind], "default": None})
        else:
            fields.append({"name": field.name, "type": kind})
    if findings:
        raise SpecErrors(findings)
    return {"type": "record", "name": name, **({"namespace": namespace} if namespace else {}), "fields": fields}


def avro_type(type_: pa.DataType) -> str | dict[str, Any] | None:
    """The Avro type of an Arrow type, None where there is none in the table above."""
    import pyarrow.types as kinds

    if kinds.is_decimal128(type_):
        return {"type": "bytes", "logicalType": "decimal", "precision": type_.precision, "scale": type_.scale}
    for answers, avro in (
        (kinds.is_string, "string"),
        (kinds.is_large_string, "string"),
        (kinds.is_boolean, "boolean"),
        (kinds.is_int64, "long"),
        (kinds.is_uint32, "long"),
        (lambda each: kinds.is_integer(each) and not kinds.is_uint64(each), "int"),
        (kinds.is_float32, "float"),
        (kinds.is_float64, "double"),
        (kinds.is_date32, {"type": "int", "logicalType": "date"}),
        (kinds.is_timestamp, {"type": "long", "logicalType": "timestamp-micros"}),
        (kinds.is_binary, "bytes"),
        (kinds.is_large_binary, "bytes"),
    ):
        if answers(type_):
            return dict(avro) if isinstance(avro, dict) else avro
    return None
