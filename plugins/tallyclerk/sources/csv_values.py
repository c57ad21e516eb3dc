"""When the text of a CSV file is a value of its column's type, as DuckDB SQL.

The engine's own casts coerce in silence: ``1.6`` becomes 2 in a BIGINT, ``1e3`` and `` 7 `` pass as a DECIMAL. A value is
right when its cast gives the same text back, or when it is written in plain digits that denote it exactly: ``.5`` and ``1.500`` are
values of a DECIMAL(12,2), ``1.005`` is none.
"""

from __future__ import annotations

from tallyclerk.contracts.model import Column
from tallyclerk.contracts.projections import quoted

_ISO_FORMATS = {"date": "%Y-%m-%d", "timestamp": "%Y-%m-%d %H:%M:%S"}
_PLAIN_INTEGER = r"-?[0-9]+"
_PLAIN_TIMESTAMP = r"[0-9]{4}-[0-9]{2}-[0-9]{2} ([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}\.[0-9]{1,6}"
_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def text_of(name: str) -> str:
    """The quoted name of a column's text as delivered."""
    return quoted(f"text of {name}")


def is_iso(column: Column) -> bool:
    """Whether a column is a date or a timestamp without a zone, written as ISO 8601 (a blank between date and time)."""
    return column.kind in _ISO_FORMATS and column.text_format in (None, _ISO_FORMATS[column.kind])


def plain_decimal(scale: int) -> str:
    """A decimal that needs no rounding to ``scale`` digits, as a regular expression: ``1``, ``1.5``, ``.5``, ``1.500``."""
    fraction = f"[0-9]{{1,{scale}}}0*" if scale else "0+"
    return rf"-?([0-9]+(\.({fraction})?)?|\.{fraction})"


def cast(column: Column, duckdb_type: str) -> str:
    """The value of a column's text; NULL where the engine sees none."""
    name = quoted(column.name)
    if column.kind == "text":
        return name
    if column.text_format and not is_iso(column):
        return f"TRY_CAST(try_strptime({name}, {literal(column.text_format)}) AS {duckdb_type})"
    return f"TRY_CAST({name} AS {duckdb_type})"


def fitting(column: Column) -> str:
    """TRUE for an empty value and for one plainly written in the column's type, else FALSE; "" for plain text.

    The usual form is tested first, and the others only where it fails: in a CASE the engine does so row by row, while
    below a NOT or an OR it evaluates all of them (measured: a third of the cost).
    """
    text, value = text_of(column.name), quoted(column.name)
    same = f"CAST({value} AS VARCHAR) = {text}"
    usual, otherwise = f"{value} IS NOT NULL", ""
    match column.kind:
        case "text":
            return ""
        case "uuid":
            # every text of this form can be cast, and the cast, at the price of the whole test, need not be made
            usual = f"regexp_full_match({text}, {literal(_UUID)})"
        case "smallint" | "int" | "bigint":
            usual, otherwise = same, _PLAIN_INTEGER
        case "decimal":
            usual, otherwise = same, plain_decimal(column.scale or 0)
        case "date" | "timestamp" if is_iso(column):
            usual = f"{same} AND {in_calendar(column)}"
            # no `24:00:00`, which the engine takes for the next day
            otherwise = _PLAIN_TIMESTAMP if column.kind == "timestamp" else ""
        case "date" | "timestamp" | "timestamptz":
            # `infinity` and `epoch` are read under any format
            usual = f"{in_calendar(column)} AND regexp_matches({text}, '[0-9]')"
        case "boolean":
            usual += f" AND lower({text}) IN ('true', 'false', 't', 'f', '1', '0')"
        case "double":
            usual += f" AND {text} = trim({text})"
    if otherwise:
        in_range = f" AND {in_calendar(column)}" if column.kind == "timestamp" else ""
        otherwise = f" OR ({value} IS NOT NULL AND regexp_full_match({text}, {literal(otherwise)}){in_range})"
    return f"CASE WHEN {usual} THEN true ELSE {text} IS NULL{otherwise} END"


def stored(column: Column, form: str) -> str:
    """What is written for a value that fits.

    :param form: the same of any value, from :func:`~tallyclerk.contracts.projections.duckdb_output`.
    """
    if column.kind == "uuid":
        # what the cast would give back, at a quarter of its price
        return f"lower({text_of(column.name)})"
    if column.kind == "timestamp":
        # the same instant without asking the calendar of a time zone; `infinity`, which would be lost, does not fit
        return f"make_timestamptz(epoch_us({quoted(column.name)}))"
    return form


def in_calendar(column: Column) -> str:
    """The years 1 to 9999: what Spark, Cassandra and Python hold; never infinity."""
    value = quoted(column.name)
    return f"{value} >= '0001-01-01' AND {value} < '9999-12-31'::DATE + 1"
