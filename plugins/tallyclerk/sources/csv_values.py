"""When the text of a CSV file is a value of its column's type, as DuckDB SQL.

The engine's own casts coerce in silence: ``1.6`` becomes 2 in a BIGINT, ``1e3`` and `` 7 `` pass as a DECIMAL. A value is
right when its cast gives the same text back, or when it has the plain written form of its type.
"""

from __future__ import annotations

from tallyclerk.contracts.model import Column
from tallyclerk.contracts.projections import quoted
from tallyclerk.sources.csv_uuids import UUID_BYTES

_ISO_FORMATS = {"date": "%Y-%m-%d", "timestamp": "%Y-%m-%d %H:%M:%S"}
_PLAIN_INTEGER = r"-?[0-9]+"
_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def text_of(name: str) -> str:
    """The quoted name of a column's text as delivered."""
    return quoted(f"text of {name}")


def cast(column: Column, duckdb_type: str) -> str:
    """The value of a column's text; NULL where the engine sees none."""
    name = quoted(column.name)
    if column.kind == "text":
        return name
    if column.text_format and column.text_format != _ISO_FORMATS.get(column.kind):
        return f"TRY_CAST(try_strptime({name}, {literal(column.text_format)}) AS {duckdb_type})"
    return f"TRY_CAST({name} AS {duckdb_type})"


def fitting(column: Column, *, uuids_by_length: bool = False) -> str:
    """TRUE for an empty value and for one plainly written in the column's type, else FALSE; "" for plain text.

    The usual form is tested first, and the others only where it fails: in a CASE the engine does so row by row, while
    below a NOT or an OR it evaluates all of them (measured: a third of the cost).

    :param uuids_by_length: look at no more than the length of a UUID.
    """
    text, value = text_of(column.name), quoted(column.name)
    same = f"CAST({value} AS VARCHAR) = {text}"
    usual, otherwise = f"{value} IS NOT NULL", "false"
    match column.kind:
        case "text":
            return ""
        case "uuid":
            # every text of this form can be cast, and the cast, at the price of the whole test, need not be made
            usual = f"regexp_full_match({text}, {literal(_UUID)})"
            if uuids_by_length:
                usual = f"strlen({text}) = {UUID_BYTES}"
        case "smallint" | "int" | "bigint":
            usual, otherwise = same, f"regexp_full_match({text}, {literal(_PLAIN_INTEGER)})"
        case "decimal":
            fraction = f"(\\.[0-9]{{1,{column.scale}}})?" if column.scale else ""
            usual, otherwise = same, f"regexp_full_match({text}, {literal(_PLAIN_INTEGER + fraction)})"
        case "date" | "timestamp" if column.text_format in (None, _ISO_FORMATS[column.kind]):
            usual = f"{same} AND {_in_calendar(value)}"
        case "date" | "timestamp" | "timestamptz":
            # `infinity` and `epoch` are read under any format
            usual = f"{_in_calendar(value)} AND regexp_matches({text}, '[0-9]')"
        case "boolean":
            usual += f" AND lower({text}) IN ('true', 'false', 't', 'f', '1', '0')"
        case "double":
            usual += f" AND {text} = trim({text})"
    otherwise = "" if otherwise == "false" else f" OR ({value} IS NOT NULL AND {otherwise})"
    return f"CASE WHEN {usual} THEN true ELSE {text} IS NULL{otherwise} END"


def stored(column: Column, form: str, *, uuids_by_length: bool = False) -> str:
    """What is written for a value that fits.

    :param form: the same of any value, from :func:`~tallyclerk.contracts.projections.duckdb_output`.
    """
    if column.kind == "uuid":
        # what the cast would give back, at a quarter of its price
        return text_of(column.name) if uuids_by_length else f"lower({text_of(column.name)})"
    if column.kind == "timestamp":
        # the same instant without asking the calendar of a time zone; `infinity`, which would be lost, does not fit
        return f"make_timestamptz(epoch_us({quoted(column.name)}))"
    return form


def _in_calendar(value: str) -> str:
    """The years 1 to 9999: what Spark, Cassandra and Python hold; never infinity."""
    return f"{value} >= '0001-01-01' AND {value} < '9999-12-31'::DATE + 1"
