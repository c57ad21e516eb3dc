"""Rows → JSON objects, a column at a time.

Numbers stay numbers, but a decimal is a string with all its digits (a JSON reader makes a double of a number), a date
``"2017-03-05"``, a timestamp ``"2017-03-05T09:30:00.000001Z"`` (ISO 8601, UTC, microseconds), bytes are Base64, and a
double that is no number is ``"NaN"``, ``"Infinity"`` or ``"-Infinity"``, as Java's Jackson writes it. A null is ``null``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import RecordError, SpecErrors

if TYPE_CHECKING:
    import pyarrow as pa

_PLAIN_SCALE = 6  # Arrow writes a decimal with more digits after its point as 1E-7
_FIRST_PRINTABLE = 0x20


def check_json(schema: pa.Schema) -> None:
    """:raises SpecErrors: columns of types without a form above; all at once."""
    from tallyclerk.contracts.avro_projection import avro_type

    findings = [
        f"{field.name}: {field.type} has no JSON form here; cast it to text before"
        for field in schema
        if avro_type(field.type) is None
    ]
    if findings:
        raise SpecErrors(findings)


def encode_objects(rows: pa.RecordBatch) -> pa.StringArray:
    """One JSON object a row, columns in their order, UTF-8, without spaces.

    :raises RecordError: a column that may not be null holds a null.
    """
    import pyarrow.compute as pc

    parts: list[Any] = []
    separator = "{"
    for field, values in zip(rows.schema, rows.columns, strict=True):
        if values.null_count and not field.nullable:
            raise RecordError(
                f"Column {field.name!r} may not be null, and {values.null_count:,} of {len(values):,} rows have none. "
                "Nothing was sent; reject these rows, or let the contract allow null."
            )
        parts.extend((f"{separator}{json.dumps(field.name, ensure_ascii=False)}:", literals(values)))
        separator = ","
    return pc.binary_join_element_wise(*parts, "}" if parts else "{}", "")


def encode_arrays(columns: list[pa.Array]) -> pa.StringArray:
    """One JSON array a row, of the columns' values."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise("[", pc.binary_join_element_wise(*map(literals, columns), ","), "]", "")


def literals(values: pa.Array) -> pa.StringArray:
    """Each value as JSON; a null as ``null``."""
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    type_ = values.type
    text = texts(values)
    if kinds.is_floating(type_):
        strange = pc.invert(pc.is_finite(values))
        if pc.any(strange).as_py():
            text = pc.if_else(strange, _quoted(text), text)
    elif not (kinds.is_integer(type_) or kinds.is_boolean(type_)):
        text = _quoted(escaped(text) if kinds.is_string(type_) or kinds.is_large_string(type_) else text)
    return text.fill_null("null") if text.null_count else text


def texts(values: pa.Array) -> pa.StringArray:
    """Each value as plain text, neither quoted nor escaped; nulls stay nulls."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    type_ = values.type
    if kinds.is_timestamp(type_):
        return _instants(values)
    if kinds.is_decimal128(type_) and type_.scale > _PLAIN_SCALE:
        return _in_duckdb(values, "CAST(value AS VARCHAR)")
    if kinds.is_binary(type_) or kinds.is_large_binary(type_):
        return _in_duckdb(values, "base64(value)")
    text = values.cast(pa.string())
    if kinds.is_floating(type_) and pc.any(pc.invert(pc.is_finite(values))).as_py():
        for arrow, ours in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
            text = pc.if_else(pc.equal(text, arrow), ours, text)
    return text


def escaped(text: pa.StringArray) -> pa.StringArray:
    """Quotes, backslashes and control characters as RFC 8259 wants them; all else stays as it is."""
    import numpy as np
    import pyarrow.compute as pc

    content = np.frombuffer(text.buffers()[2] or b"", np.uint8)
    control = content[content < _FIRST_PRINTABLE]
    if (content == ord("\\")).any():
        text = pc.replace_substring(text, "\\", "\\\\")
    if (content == ord('"')).any():
        text = pc.replace_substring(text, '"', '\\"')
    for code in np.unique(control):
        text = pc.replace_substring(text, chr(code), json.dumps(chr(code))[1:-1])
    return text


def _quoted(text: pa.StringArray) -> pa.StringArray:
    import pyarrow.compute as pc

    return pc.binary_join_element_wise('"', text, '"', "")


def _instants(values: pa.Array) -> pa.StringArray:
    """A timestamp without a zone is UTC already. Arrow's own text of a zoned one costs twenty times as much."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = values.cast(pa.timestamp("us", tz=values.type.tz)).view(pa.timestamp("us"))
    text = plain.cast(pa.string())
    width = len("2017-03-05 09:30:00.000001")
    first, last = text.offset, text.offset + len(text)
    offsets = np.frombuffer(text.buffers()[1], np.int32)[first : last + 1]
    if not text.null_count and len(text) and (np.diff(offsets) == width).all():
        signs = np.frombuffer(text.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, width)
        made = np.empty((len(text), width + 1), np.uint8)
        made[:, :width] = signs
        made[:, 10], made[:, width] = ord("T"), ord("Z")
        ends = np.arange(len(text) + 1, dtype=np.int32) * np.int32(width + 1)
        return pa.StringArray.from_buffers(len(text), pa.py_buffer(ends), pa.py_buffer(made))
    return pc.binary_join_element_wise(pc.replace_substring(text, " ", "T"), "Z", "")


def _in_duckdb(values: pa.Array, expression: str) -> pa.StringArray:
    """An expression over ``value``, in DuckDB."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect() as connection:
        connection.execute("SET threads = 1")
        column = pa.table({"value": values})
        found = connection.from_arrow(column).project(f"{expression} AS text").to_arrow_table()["text"]
    return found.combine_chunks().cast(pa.string())
