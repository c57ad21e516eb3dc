"""Rows → Avro bodies (Avro 1.12, "binary encoding"), a column at a time.

Numbers become blocks of bytes (:mod:`~tallyclerk.sinks.columnar_bytes`), texts stay where they are, and one Arrow kernel
joins them row by row. A row never becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import RecordError, SpecErrors
from tallyclerk.sinks.columnar_bytes import Block, constant, decimals, fixed_width, flatten, zigzag_varints

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.sinks.columnar_bytes import Used

_ABSENT, _PRESENT = 0, 1
"""Branches of the union ``["null", T]``."""


def check_avro(schema: pa.Schema, avro: Mapping[str, Any]) -> None:
    """Hold an Avro record to the Arrow columns whose rows it will be written from.

    :raises SpecErrors: other names, another order, or a type that these columns cannot be written as.
    """
    from tallyclerk.contracts.avro_projection import avro_type

    fields = avro.get("fields", [])
    names = [field["name"] for field in fields]
    if names != schema.names:
        raise SpecErrors(
            [f"{avro.get('name')}: the Avro fields are {names}, the columns {schema.names}; make them equal"]
        )
    findings = []
    for field, column in zip(fields, schema, strict=True):
        own = avro_type(column.type)
        wanted: Any = ["null", own] if column.nullable else own
        if own is None or _bare(field["type"]) != _bare(wanted):
            findings.append(
                f"{avro.get('name')}.{field['name']}: the Avro type is {field['type']}, the column's {wanted}"
            )
    if findings:
        raise SpecErrors(findings)


def encode_rows(rows: pa.RecordBatch, *, header: bytes = b"") -> pa.BinaryArray:
    """One Avro body a row, each after ``header``. The batch must be of a schema that :func:`check_avro` let pass.

    :raises RecordError: a column that may not be null holds a null.
    """
    import pyarrow.compute as pc

    count = rows.num_rows
    parts: list[Any] = []
    blocks = [constant(header, count)] if header else []
    for field, values in zip(rows.schema, rows.columns, strict=True):
        valid = _validity(field, values)
        if field.nullable:
            blocks.append(_branch(valid, count))
        text = _as_bytes(values)
        if text is None:
            blocks.extend(block.only_where(valid) for block in _number_blocks(values))
            continue
        lengths = pc.binary_length(text).to_numpy(zero_copy_only=False).astype("int64")
        blocks.append(zigzag_varints(lengths).only_where(valid))
        parts.extend((flatten(blocks, count), text))
        blocks = []
    if blocks or not parts:
        parts.append(flatten(blocks or [constant(b"", count)], count))
    return pc.binary_join_element_wise(*parts, b"") if len(parts) > 1 else parts[0]


def _bare(type_: Any) -> Any:
    """An Avro type without what does not change its bytes (a uuid is a string)."""
    if isinstance(type_, list):
        return [_bare(each) for each in type_]
    if isinstance(type_, Mapping):
        if type_.get("logicalType") == "decimal":
            return ("decimal", type_.get("precision"), type_.get("scale", 0))
        if type_.get("logicalType") in ("date", "timestamp-micros"):
            return type_["logicalType"]
        return type_.get("type")
    return type_


def _validity(field: pa.Field, values: pa.Array) -> Used | None:
    """Which rows have a value; None when all do."""
    if not values.null_count:
        return None
    if not field.nullable:
        raise RecordError(
            f"Column {field.name!r} may not be null, and {values.null_count:,} of {len(values):,} rows have none. "
            "Nothing was sent; reject these rows, or let the contract allow null."
        )
    return values.is_valid().to_numpy(zero_copy_only=False)


def _branch(valid: Used | None, count: int) -> Block:
    import numpy as np

    if valid is None:
        return constant(bytes([_PRESENT << 1]), count)
    return Block((valid.astype(np.uint8) * np.uint8(_PRESENT << 1)).reshape(-1, 1), None)


def _as_bytes(values: pa.Array) -> pa.Array | None:
    """A text or binary column as binary without nulls; None for other types."""
    import pyarrow as pa
    import pyarrow.types as kinds

    type_ = values.type
    if not (
        kinds.is_string(type_) or kinds.is_large_string(type_) or kinds.is_binary(type_) or kinds.is_large_binary(type_)
    ):
        return None
    plain = values.cast(pa.binary())
    return plain.fill_null(b"") if plain.null_count else plain


def _number_blocks(values: pa.Array) -> Sequence[Block]:
    import pyarrow as pa
    import pyarrow.types as kinds

    type_ = values.type
    if kinds.is_decimal128(type_):
        return decimals(values)
    if values.null_count:
        values = values.fill_null(False if kinds.is_boolean(type_) else _zero(type_))
    if kinds.is_boolean(type_):
        return (fixed_width(values.to_numpy(zero_copy_only=False), dtype="u1"),)
    if kinds.is_floating(type_):
        return (fixed_width(values.to_numpy(), dtype="<f4" if kinds.is_float32(type_) else "<f8"),)
    if kinds.is_timestamp(type_):
        # a finer unit than Avro's would lose digits: the cast refuses that
        values = values.cast(pa.timestamp("us", tz=type_.tz)).view(pa.int64())
    elif kinds.is_date32(type_):
        values = values.view(pa.int32()).cast(pa.int64())
    else:
        values = values.cast(pa.int64())
    return (zigzag_varints(values.to_numpy()),)


def _zero(type_: pa.DataType) -> pa.Scalar:
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_timestamp(type_) or kinds.is_date32(type_):
        return pa.scalar(0, pa.int64() if kinds.is_timestamp(type_) else pa.int32()).cast(type_)
    return pa.scalar(0, type_)
