"""The one table of column types. Every projection reads it, and a new type is one entry.

Two decisions stand here. Delta has no UUID type, so a uuid is stored as text (and still checked as a uuid when it is
read). Delta's ``timestamp`` is an instant in UTC, and its wall-clock twin ``timestamp_ntz`` needs a table feature that
raises the table to reader 3 / writer 7, which older readers refuse; so ``timestamp`` (declared to be UTC) and
``timestamptz`` are both stored as ``timestamp[us, tz=UTC]``. In DuckDB a ``timestamp`` stays a plain TIMESTAMP that
means UTC, which no session time zone can shift.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DECIMAL = re.compile(r"(?:decimal|numeric|dec)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)")
_SIZED_TEXT = re.compile(r"(varchar|character varying)\s*\(\s*\d+\s*\)")
UNREADABLE = "unreadable"
"""Stands for a type that could not be read, while the other findings are collected; no loaded contract has it."""

MAX_DECIMAL_DIGITS = 38  # of Arrow's decimal128, Delta, Spark and DuckDB


class UnknownTypeError(ValueError):
    """Not a type of this table."""


class TypeLimitError(ValueError):
    """A type that cannot be stored exactly."""


@dataclass(frozen=True, slots=True)
class PhysicalType:
    """How one type is called elsewhere; ``{args}`` stands for a decimal's ``p,s``.

    :param arrow: what :func:`tallyclerk.contracts.projections.arrow_type` makes an Arrow type of.
    :param logical: the ODCS logical types that may stand beside it.
    :param wider_cql: CQL types that hold every value of it, beside ``cql``.
    """

    arrow: str
    duckdb: str
    spark: str
    cql: str
    logical: tuple[str, ...]
    wider_cql: tuple[str, ...] = ("text",)
    aliases: tuple[str, ...] = ()


TYPES: dict[str, PhysicalType] = {
    "text": PhysicalType("string", "VARCHAR", "STRING", "text", ("string",), aliases=("string", "varchar")),
    "uuid": PhysicalType("string", "UUID", "STRING", "uuid", ("string",)),
    "boolean": PhysicalType("bool", "BOOLEAN", "BOOLEAN", "boolean", ("boolean",), aliases=("bool",)),
    "smallint": PhysicalType(
        "int16", "SMALLINT", "SMALLINT", "smallint", ("integer",), ("text", "int", "bigint", "varint"), ("int2",)
    ),
    "int": PhysicalType(
        "int32", "INTEGER", "INT", "int", ("integer",), ("text", "bigint", "varint"), ("integer", "int4")
    ),
    "bigint": PhysicalType("int64", "BIGINT", "BIGINT", "bigint", ("integer",), ("text", "varint"), ("int8", "long")),
    "decimal": PhysicalType("decimal128", "DECIMAL({args})", "DECIMAL({args})", "decimal", ("number",)),
    "double": PhysicalType("double", "DOUBLE", "DOUBLE", "double", ("number",), aliases=("double precision", "float8")),
    "date": PhysicalType("date32", "DATE", "DATE", "date", ("date",)),
    "timestamp": PhysicalType(
        "timestamp", "TIMESTAMP", "TIMESTAMP", "timestamp", ("timestamp",), aliases=("timestamp without time zone",)
    ),
    "timestamptz": PhysicalType(
        "timestamp",
        "TIMESTAMP WITH TIME ZONE",
        "TIMESTAMP",
        "timestamp",
        ("timestamp",),
        aliases=("timestamp with time zone",),
    ),
    "bytes": PhysicalType("binary", "BLOB", "BINARY", "blob", ("string",), (), ("bytea", "blob", "binary")),
}

_BY_ALIAS = {alias: name for name, physical in TYPES.items() for alias in (name, *physical.aliases)}


def normalise(stated: str) -> str:
    """Return the type's one name: ``NUMERIC(12, 2)`` is ``decimal(12,2)``, ``varchar(20)`` is ``text``.

    :raises UnknownTypeError: not a type of this table.
    :raises TypeLimitError: a type that loses digits, or a decimal of impossible size; the message says what to do.
    """
    text = " ".join(stated.lower().split())
    if found := _DECIMAL.fullmatch(text):
        precision, scale = int(found[1]), int(found[2] or 0)
        if not 1 <= precision <= MAX_DECIMAL_DIGITS or scale > precision:
            raise TypeLimitError(
                f"a decimal has 1 to {MAX_DECIMAL_DIGITS} digits, and not more after the point than in all"
            )
        return f"decimal({precision},{scale})"
    if _SIZED_TEXT.fullmatch(text):
        return "text"
    if text in ("decimal", "numeric"):
        raise TypeLimitError("a decimal needs its digits, as in decimal(12,2)")
    if text in ("float", "real", "float4"):
        raise TypeLimitError("single precision loses cents; use decimal(p,s) for amounts, double for measurements")
    if text not in _BY_ALIAS:
        raise UnknownTypeError(text)
    return _BY_ALIAS[text]


def lookup(column_type: str) -> PhysicalType:
    """The entry of a normalised type."""
    return TYPES[column_type.partition("(")[0]]


def spell(template: str, column_type: str) -> str:
    """Fill a type's parameters into its name elsewhere."""
    return template.format(args=column_type.partition("(")[2].rstrip(")").replace(",", ", "))
