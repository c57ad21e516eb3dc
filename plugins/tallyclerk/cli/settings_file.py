"""Read ``airflow_settings.yaml`` (Astro's schema) into values that can be written to Airflow.

Everything that can be wrong is found here, before anything is written, and reported together. Messages name file,
path and remedy, and never show a value: a value may be a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tallyclerk.cli.settings_entry import Entry, unknown_keys
from tallyclerk.cli.yaml_scalars import YamlProblemError, parse_yaml
from tallyclerk.exceptions import SpecError, SpecErrors

T = TypeVar("T")

_CONNECTION_ID = re.compile(r"[\w.-]{1,200}")  # what `airflow connections add` accepts
_PARTS = ("conn_type", "conn_host", "conn_schema", "conn_login", "conn_password", "conn_port")
_SECTIONS = {
    "connections": ("conn_id", *_PARTS, "conn_uri", "conn_extra"),
    "pools": ("pool_name", "pool_slot", "pool_description"),
    "variables": ("variable_name", "variable_value"),
}


@dataclass(frozen=True, slots=True)
class ConnectionSetting:
    """One connection; either ``uri`` or the single parts are given."""

    conn_id: str
    conn_type: str | None = None
    host: str | None = None
    schema: str | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    port: int | None = None
    uri: str | None = field(default=None, repr=False)
    extra: dict[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PoolSetting:
    """One pool; -1 slots means unlimited."""

    name: str
    slots: int
    description: str = ""


@dataclass(frozen=True, slots=True)
class VariableSetting:
    """One variable; a mapping or a list in the file becomes its JSON text."""

    key: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """What one settings file asks for."""

    connections: tuple[ConnectionSetting, ...] = ()
    pools: tuple[PoolSetting, ...] = ()
    variables: tuple[VariableSetting, ...] = ()


def read_settings(path: Path, environment: Mapping[str, str]) -> Settings:
    """Read and check a settings file.

    :raises SpecErrors: with one line for each thing that is wrong.
    """
    try:
        document = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; name it: airflow tallyclerk load-settings FILE") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    except YamlProblemError as error:
        raise SpecError(f"{path}: {error}") from None
    errors: list[str] = []
    content = _content(document, errors)
    settings = Settings(
        connections=_read_section("connections", _connection, content, environment, errors),
        pools=_read_section("pools", _pool, content, environment, errors),
        variables=_read_section("variables", _variable, content, environment, errors),
    )
    if errors:
        raise SpecErrors([f"{path}: {error}" for error in errors])
    return settings


def _content(document: object, errors: list[str]) -> dict[str, object]:
    """Return what is under the key ``airflow``."""
    if not isinstance(document, dict) or not isinstance(document.get("airflow"), dict | None):
        errors.append("must be a mapping with the key 'airflow', and connections, pools and variables under it")
        return {}
    content = document.get("airflow") or {}
    errors += [f"{key}: {remedy}" for key, remedy in unknown_keys(document, ("airflow",))]
    errors += [f"airflow.{key}: {remedy}" for key, remedy in unknown_keys(content, tuple(_SECTIONS))]
    return content


def _read_section(
    section: str,
    read_entry: Callable[[Entry], T | None],
    content: Mapping[str, object],
    environment: Mapping[str, str],
    errors: list[str],
) -> tuple[T, ...]:
    """Read each entry of a section; an entry of which every field is empty (as in Astro's template) is left out."""
    raw_entries = content.get(section) or []
    if not isinstance(raw_entries, list):
        errors.append(f"airflow.{section}: must be a list; begin each entry with '- '")
        return ()
    read: list[T] = []
    first_paths: dict[str, str] = {}
    for index, raw in enumerate(raw_entries):
        path = f"airflow.{section}[{index}]"
        if not isinstance(raw, dict):
            errors.append(f"{path}: must be a mapping with the keys {', '.join(_SECTIONS[section])}")
            continue
        entry = Entry(path, raw, environment, errors)
        errors += [f"{path}.{key}: {remedy}" for key, remedy in unknown_keys(raw, _SECTIONS[section])]
        if not entry.given(raw):
            continue
        setting = read_entry(entry)
        if first_paths.setdefault(entry.name or path, path) != path:
            errors.append(f"{entry.path}: is already defined at {first_paths[entry.name or path]}; keep one of them")
        if setting is not None:
            read.append(setting)
    return tuple(read)


def _connection(entry: Entry) -> ConnectionSetting | None:
    conn_id = entry.identity("conn_id")
    if conn_id and not _CONNECTION_ID.fullmatch(conn_id):
        entry.problem("conn_id", "may hold only letters, digits, '_', '-' and '.', at most 200 of them")
    if entry.given(("conn_uri",)) and (parts := entry.given(_PARTS)):
        entry.problem("conn_uri", f"cannot stand beside {', '.join(parts)}; keep one way")
    setting = ConnectionSetting(
        conn_id=conn_id or "",
        conn_type=entry.text("conn_type", required=not entry.given(("conn_uri",))),
        host=entry.text("conn_host"),
        schema=entry.text("conn_schema"),
        login=entry.text("conn_login"),
        password=entry.text("conn_password"),
        port=entry.integer("conn_port", low=1, high=65535),
        uri=entry.text("conn_uri"),
        extra=entry.json_object("conn_extra"),
    )
    if setting.uri and not re.match(r"[A-Za-z][\w+-]*://", setting.uri):
        entry.problem("conn_uri", "must begin with a connection type, as in postgres://…")
    return setting if conn_id else None


def _pool(entry: Entry) -> PoolSetting | None:
    name = entry.identity("pool_name")
    slots = entry.integer("pool_slot", low=-1, high=2**31 - 1, required=True)
    description = entry.text("pool_description") or ""
    return PoolSetting(name, slots, description) if name and slots is not None else None


def _variable(entry: Entry) -> VariableSetting | None:
    key = entry.identity("variable_name")
    value = entry.structure("variable_value")
    if not isinstance(value, str | None):
        value = json.dumps(value, ensure_ascii=False)
    return VariableSetting(key, value or "") if key else None
