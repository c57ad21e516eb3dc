"""How each of a contract's types stands in JSON, and the SQL that tells a value of it from what only looks like one."""

from __future__ import annotations

from typing import Annotated, Any

from tallyclerk.contracts.model import Column
from tallyclerk.contracts.physical_types import lookup, spell
from tallyclerk.contracts.projections import quoted
from tallyclerk.contracts.row_rules import text_literal

DIRECT: dict[str, Any] = {
    "text": str,
    "boolean": bool,
    "double": float,
    "smallint": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
"""Kinds whose JSON form is their value; for whole numbers, their bounds."""
_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ISO_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_TIME = _ISO_DATE + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"


def decoded_as(column: Column) -> Any:
    import msgspec

    kind = DIRECT.get(column.kind)
    if isinstance(kind, tuple):
        return Annotated[int, msgspec.Meta(ge=kind[0], le=kind[1])] | None
    if kind is not None:
        return kind | None
    # a decimal's own digits; Raw takes null as well
    return msgspec.Raw if column.kind == "decimal" else str | None


def scalar_text(value: Any) -> str | None:
    """A decoded value as the text that DuckDB casts back to just this value."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return repr(value)
    text = json_text(value)
    return None if text == "null" else text.strip('"')


def json_text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", errors="replace")


def text_name(name: str) -> str:
    return quoted(f"text of {name}")


def cast_of(column: Column) -> str:
    """The column's text as a value of its type; NULL where it is none."""
    name, duckdb_type = quoted(column.name), spell(lookup(column.type).duckdb, column.type)
    if column.kind == "text":
        return name
    if column.kind == "bytes":
        return f"TRY(from_base64({name}))"
    if column.text_format:
        return f"TRY_CAST(try_strptime({name}, {text_literal(column.text_format)}) AS {duckdb_type})"
    if column.kind == "timestamp":
        return f"TRY_CAST({name} AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC'"
    return f"TRY_CAST({name} AS {duckdb_type})"


def misfit_of(column: Column) -> str:
    """TRUE (never NULL) for a text that is not a plainly written value of the type; "" for kinds that JSON has itself."""
    text, value = text_name(column.name), quoted(column.name)
    match column.kind:
        case kind if kind in DIRECT:
            return ""
        case "uuid":
            form = _UUID
        case "decimal":
            form = "-?[0-9]+" + (f"(\\.[0-9]{{1,{column.scale}}})?" if column.scale else "")
        case "date" | "timestamp" | "timestamptz" if column.text_format:
            form = ".*[0-9].*"  # `infinity` and `epoch` are read under any format
        case "date":
            form = _ISO_DATE
        case "timestamp" | "timestamptz":
            form = _ISO_TIME
        case _:
            form = ".*"
    return f"{text} IS NOT NULL AND ({value} IS NULL OR NOT regexp_full_match({text}, {text_literal(form)}))"
