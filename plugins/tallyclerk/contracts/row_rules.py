"""The promises that stand in a column itself: required, its limits, its pattern, its allowed values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from tallyclerk.contracts.documents import Findings, Place
from tallyclerk.contracts.model import Column, Rule
from tallyclerk.contracts.physical_types import UNREADABLE
from tallyclerk.contracts.projections import quoted

_LIMITS = {
    "minimum": ("<", "must be at least"),
    "maximum": (">", "must be at most"),
    "exclusiveMinimum": ("<=", "must be greater than"),
    "exclusiveMaximum": (">=", "must be less than"),
}
_LENGTHS = {"minLength": ("<", "at least"), "maxLength": (">", "at most")}
_INTEGER_BITS = {"smallint": 16, "int": 32, "bigint": 64}


def column_rules(
    column: Column, entry: dict[str, Any], place: Place, findings: Findings
) -> Iterator[tuple[Rule, Place]]:
    """Yield each rule of one column with its place. All reject the row; each problem becomes a finding."""
    name = quoted(column.name)
    if column.required:
        yield _reject(column, "required", f"{name} IS NULL", "must not be empty"), (*place, "required")
    if column.type == UNREADABLE:
        return
    options = entry.get("logicalTypeOptions")
    for option, value in (options if isinstance(options, dict) else {}).items():
        here: Place = (*place, "logicalTypeOptions", option)
        if option in _LIMITS:
            sign, words = _LIMITS[option]
            literal = sql_literal(column, value, here, findings)
            if literal is not None:
                yield _reject(column, option, f"{name} {sign} {literal}", f"{words} {value}"), here
        elif option in _LENGTHS and isinstance(value, int):
            sign, words = _LENGTHS[option]
            unit = "bytes" if column.type == "bytes" else "characters"
            function = "octet_length" if column.type == "bytes" else "length"
            if column.type == "uuid":
                findings.add(here, "a uuid has one length; remove it")
            else:
                yield (
                    _reject(column, option, f"{function}({name}) {sign} {value}", f"must have {words} {value} {unit}"),
                    here,
                )
        elif option == "pattern" and isinstance(value, str):
            if column.type == "text":
                yield (
                    _reject(
                        column, option, f"NOT regexp_matches({name}, {text_literal(value)})", f"must match {value}"
                    ),
                    here,
                )
            else:
                findings.add(here, f"only text has a pattern, and this is {column.type}; remove it")
        elif option == "multipleOf":
            if column.type == "double":
                findings.add(here, "a double is not exact enough for it; use decimal(p,s), or remove it")
            elif (literal := sql_literal(column, value, here, findings)) is not None:
                yield _reject(column, option, f"{name} % {literal} <> 0", f"must be a multiple of {value}"), here
    if isinstance(entry.get("enum"), list):
        allowed = [item["value"] for item in entry["enum"] if isinstance(item, dict) and "value" in item]
        literals = value_list(column, allowed, (*place, "enum"), findings)
        if literals:
            yield (
                _reject(column, "enum", f"{name} NOT IN ({literals})", f"must be one of {_listed(allowed)}"),
                (*place, "enum"),
            )


def value_list(column: Column, values: Sequence[Any], place: Place, findings: Findings) -> str:
    """The values as SQL literals, comma-separated; "" where one does not fit the column."""
    if column.type == UNREADABLE:
        return ""
    literals = [sql_literal(column, value, (*place, index), findings) for index, value in enumerate(values)]
    return ", ".join(literal for literal in literals if literal is not None) if None not in literals else ""


def sql_literal(column: Column, value: Any, place: Place, findings: Findings) -> str | None:
    """A value of the contract as a DuckDB literal of the column's type; None, and a finding, where it does not fit."""
    try:
        return _literal(column, value)
    except (ValueError, ArithmeticError) as refusal:
        findings.add(place, f"{value!r} is not a {column.type}: {refusal}")
        return None


def text_literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(column: Column, value: Any) -> str:
    kind = column.kind
    if kind in ("text", "uuid"):
        if not isinstance(value, str):
            raise ValueError("put it in quotes")
        return text_literal(value)
    if kind == "boolean":
        if not isinstance(value, bool):
            raise ValueError("write true or false")
        return str(value).upper()
    if kind in ("date", "timestamp", "timestamptz"):
        return _time_literal(kind, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("write a number")
    number = Decimal(str(value))
    if kind in _INTEGER_BITS:
        if number != int(number):
            raise ValueError("write a whole number")
        bound = 2 ** (_INTEGER_BITS[kind] - 1)
        if not -bound <= number < bound:
            raise ValueError("it is outside the type's range")
        return str(int(number))
    if kind == "decimal":
        scale, precision = column.scale or 0, column.precision or 0
        if number != round(number, scale):
            raise ValueError(f"it has more than {scale} digits after the point")
        if abs(number) >= Decimal(10) ** (precision - scale):
            raise ValueError(f"it has more than {precision - scale} digits before the point")
        return f"{number:f}"
    if kind == "double":
        return repr(float(value))
    raise ValueError("this type has no limits")


def _time_literal(kind: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("write it as text, in ISO 8601")
    if kind == "date":
        return f"DATE '{date.fromisoformat(value).isoformat()}'"
    instant = datetime.fromisoformat(value)
    instant = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC).replace(tzinfo=None)
    text = instant.isoformat(sep=" ")
    return f"TIMESTAMP '{text}'" if kind == "timestamp" else f"TIMESTAMPTZ '{text}+00'"


def _reject(column: Column, check: str, violation: str, words: str) -> Rule:
    return Rule(
        id=f"{column.name}.{check}",
        kind="row",
        check=check,
        violation=violation,
        message=f"{column.name} {words}",
        on_violation="reject",
        column=column.name,
    )


def _listed(values: Sequence[Any]) -> str:
    shown = ", ".join(map(str, values[:10]))
    return shown if len(values) <= 10 else f"{shown}, ... ({len(values)} values)"
