"""Read the schema's properties as columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tallyclerk.contracts.date_patterns import strptime_format
from tallyclerk.contracts.documents import Findings, Place, suggestion
from tallyclerk.contracts.extensions import read_extensions
from tallyclerk.contracts.model import Column
from tallyclerk.contracts.physical_types import (
    TYPES,
    UNREADABLE,
    TypeLimitError,
    UnknownTypeError,
    lookup,
    normalise,
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UTC_NAMES = ("Etc/UTC", "UTC", "Etc/GMT", "GMT", "Z")
_NESTED = ("properties", "items", "map", "relationships")
_LOGICAL_TYPES = tuple(dict.fromkeys(name for physical in TYPES.values() for name in physical.logical))
_OTHER_LOGICAL_TYPES = ("time", "object", "array", "map", "vector")  # of the standard, but no column of a table
_INTEGER_FORMATS = {"smallint": "i16", "int": "i32", "bigint": "i64"}


def read_columns(schema: Mapping[str, Any], place: Place, findings: Findings) -> tuple[Column, ...]:
    """Return every column that can be read; each problem becomes a finding."""
    columns: list[Column] = []
    first: dict[str, str] = {}
    entries = schema.get("properties")
    if not isinstance(entries, list) or not entries:
        findings.add((*place, "properties") if "properties" in schema else place, "names no column; add `properties`")
        return ()
    for index, entry in enumerate(entries):
        here: Place = (*place, "properties", index)
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            continue  # reported by the standard's own check
        name = entry["name"]
        if not _NAME.fullmatch(name):
            findings.add((*here, "name"), f"{name!r} is not a column name; use letters, digits and underscores")
        if first.setdefault(name.lower(), name) is not name and any(c.name.lower() == name.lower() for c in columns):
            findings.add((*here, "name"), f"{name!r} stands twice (names ignore case); rename or remove one")
            continue
        read_extensions(entry, here, "a column", findings)
        columns.append(_column(entry, here, findings))
    return tuple(columns)


def positions(schema: Mapping[str, Any], place: Place, flag: str, position: str, findings: Findings) -> tuple[str, ...]:
    """The columns with a flag (``primaryKey``, ``partitioned``), in the order of their positions.

    Where none states a position they stand in the schema's order.
    """
    found: list[tuple[Any, str]] = []
    for index, entry in enumerate(_entries(schema)):
        here: Place = (*place, "properties", index)
        if entry.get(flag) is True:
            found.append((entry.get(position), entry["name"]))
        elif position in entry and isinstance(entry[position], int) and entry[position] > 0:
            findings.add((*here, position), f"stands without `{flag}: true`; add it, or remove the position")
    stated = [number for number, _ in found if number is not None]
    if not stated:
        return tuple(name for _, name in found)
    if sorted(map(str, stated)) != sorted(str(number + 1) for number in range(len(found))):
        listed = ", ".join(f"{name}: {number}" for number, name in found)
        findings.add((*place, "properties"), f"{position} must count from 1 without gaps ({listed}); number them anew")
        return tuple(name for _, name in found)
    return tuple(name for _, name in sorted(found))


def _entries(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    entries = schema.get("properties")
    named = isinstance(entries, list) and all(isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries)
    return list(entries) if named and isinstance(entries, list) else []


def _column(entry: dict[str, Any], place: Place, findings: Findings) -> Column:
    for key in _NESTED:
        if key in entry:
            findings.add((*place, key), "is not read here, as tables are flat; flatten or remove it")
    column_type = _type(entry, place, findings)
    derived = entry.get("transformLogic")
    if derived is None and "transformSourceObjects" in entry:
        findings.add((*place, "transformSourceObjects"), "stands without transformLogic; add it, or remove this")
    if entry.get("semanticType", "column") != "column":
        findings.add((*place, "semanticType"), "only columns are read here; remove it")
    options = entry.get("logicalTypeOptions")
    options = options if isinstance(options, dict) else {}
    return Column(
        name=entry["name"],
        type=column_type,
        required=entry.get("required") is True or entry.get("primaryKey") is True,
        unique=entry.get("unique") is True,
        primary_key=entry.get("primaryKey") is True,
        derived=derived if isinstance(derived, str) else None,
        text_format=_text_format(column_type, options, (*place, "logicalTypeOptions"), findings),
        time_zone=_time_zone(column_type, options, (*place, "logicalTypeOptions"), findings),
    )


def _type(entry: dict[str, Any], place: Place, findings: Findings) -> str:
    """The normalised type, or ``UNREADABLE``."""
    for key, remedy in (("logicalType", _LOGICAL_TYPES), ("physicalType", tuple(TYPES))):
        if key not in entry:
            findings.add(place, f"lacks the key {key!r}; add one of {', '.join(remedy)}")
    stated, logical = entry.get("physicalType"), entry.get("logicalType")
    if not isinstance(stated, str):
        return UNREADABLE
    here = (*place, "physicalType")
    try:
        column_type = normalise(stated)
    except UnknownTypeError:
        findings.add(here, f"{stated!r} is not a known type; {suggestion(stated.lower().partition('(')[0], TYPES)}")
        return UNREADABLE
    except TypeLimitError as refusal:
        findings.add(here, f"{stated!r} is not allowed; {refusal}")
        return UNREADABLE
    allowed = lookup(column_type).logical
    if logical in (*_LOGICAL_TYPES, *_OTHER_LOGICAL_TYPES) and logical not in allowed:
        findings.add((*place, "logicalType"), f"{logical!r} does not fit {stated!r}; write {' or '.join(allowed)}")
    return column_type


def _text_format(column_type: str, options: dict[str, Any], place: Place, findings: Findings) -> str | None:
    stated, here = options.get("format"), (*place, "format")
    if not isinstance(stated, str):
        return None
    if column_type in ("date", "timestamp", "timestamptz"):
        try:
            return strptime_format(stated)
        except ValueError as refusal:
            findings.add(here, f"{stated!r}: {refusal}")
    elif column_type in _INTEGER_FORMATS and stated != _INTEGER_FORMATS[column_type]:
        findings.add(here, f"{stated!r} is not the format of {column_type}; write {_INTEGER_FORMATS[column_type]}")
    elif (column_type == "double" and stated != "f64") or column_type.startswith("decimal"):
        findings.add(here, f"{stated!r} does not fit {column_type}; remove it")
    elif column_type == "text":
        findings.add(here, f"{stated!r} is not checked here; state it as `pattern`, or use physicalType uuid")
    elif column_type == "uuid" and stated != "uuid":
        findings.add(here, f"{stated!r} does not fit uuid; write uuid")
    return None


def _time_zone(column_type: str, options: dict[str, Any], place: Place, findings: Findings) -> str | None:
    if column_type not in ("timestamp", "timestamptz"):
        return None
    zone, with_zone = options.get("defaultTimezone", "Etc/UTC"), options.get("timezone", column_type == "timestamptz")
    if isinstance(with_zone, bool) and with_zone != (column_type == "timestamptz"):
        fit = "timestamptz" if with_zone else "timestamp"
        findings.add(
            (*place, "timezone"),
            f"does not fit physicalType {column_type}; write {not with_zone}".lower() + f", or {fit}",
        )
    if zone not in _UTC_NAMES:
        findings.add(
            (*place, "defaultTimezone"),
            f"{zone!r} is not UTC, and local times repeat an hour each autumn; have the source write UTC or an offset",
        )
    return "Etc/UTC"
