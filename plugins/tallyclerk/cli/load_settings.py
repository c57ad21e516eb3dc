"""``airflow tallyclerk load-settings``: write a settings file into Airflow's database, in one transaction."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from airflow.exceptions import AirflowException
from airflow.models import Connection, Pool, Variable
from airflow.utils.session import create_session
from sqlalchemy import select

from tallyclerk.cli.console import EXIT_OK, command, table
from tallyclerk.cli.settings_file import ConnectionSetting, PoolSetting, Settings, VariableSetting, read_settings
from tallyclerk.exceptions import SpecErrors

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_FIELDS = ("conn_type", "host", "schema", "login", "password", "port")


class Outcome(NamedTuple):
    """What was done to one entry; ``action`` is created, updated or unchanged."""

    id: str
    type: str
    action: str


@command
def load_settings(args: Namespace) -> int:
    """Read the file, then write all of it or nothing, and print what was done."""
    settings = read_settings(Path(args.file), os.environ)
    with create_session() as session:
        outcomes = list(apply_settings(settings, session))
    print(table(Outcome._fields, outcomes))
    for variable_name in _hiding(settings):
        print(f"note: {variable_name} is set in the environment, and Airflow prefers it to the database")
    return EXIT_OK


def apply_settings(settings: Settings, session: Session) -> Iterator[Outcome]:
    """Upsert each entry by its id; the caller commits. Entries that are not in the file are left alone.

    :raises SpecErrors: Airflow does not take a connection; nothing has been written then.
    """
    for wanted in _build_all(settings.connections):
        yield Outcome(wanted.conn_id, f"connection ({wanted.conn_type})", _put_connection(wanted, session))
    for pool in settings.pools:
        yield Outcome(pool.name, "pool", _put_pool(pool, session))
    for variable in settings.variables:
        yield Outcome(variable.key, "variable", _put_variable(variable, session))


def _build_all(settings: Iterable[ConnectionSetting]) -> list[Connection]:
    connections: list[Connection] = []
    refused: list[str] = []
    for setting in settings:
        try:
            connections.append(_build(setting))
        except (ValueError, AirflowException):  # their messages quote the URI, and with it the password
            refused.append(
                f"connection {setting.conn_id!r}: Airflow cannot read its conn_uri; "
                "percent-encode special characters, or use conn_type, conn_host, … instead"
            )
    if refused:
        raise SpecErrors(refused)
    return connections


def _build(setting: ConnectionSetting) -> Connection:
    """Let Airflow's own model read the setting."""
    if not setting.uri:
        return Connection(
            conn_id=setting.conn_id,
            conn_type=setting.conn_type,
            host=setting.host,
            schema=setting.schema,
            login=setting.login,
            password=setting.password,
            port=setting.port,
            extra=setting.extra,
        )
    connection = Connection(conn_id=setting.conn_id, uri=setting.uri)
    if setting.extra:
        connection.set_extra(json.dumps({**connection.extra_dejson, **setting.extra}))
    return connection


def _put_connection(wanted: Connection, session: Session) -> str:
    stored = session.scalar(select(Connection).where(Connection.conn_id == wanted.conn_id))
    if stored is None:
        session.add(wanted)
        return "created"
    if all((getattr(stored, name) or None) == (getattr(wanted, name) or None) for name in _FIELDS) and (
        _parsed(stored.extra) == _parsed(wanted.extra)
    ):
        return "unchanged"
    # a new row in place of the old one, because Airflow's model ignores an order to clear a password
    for name in ("id", "description", "team_name"):
        setattr(wanted, name, getattr(stored, name))
    session.delete(stored)
    session.flush()
    session.add(wanted)
    return "updated"


def _parsed(extra: str | None) -> object:
    """Compare extras by content; a text that is not JSON (older rows may hold one) differs from every setting."""
    if not extra:
        return {}
    try:
        return json.loads(extra)
    except json.JSONDecodeError:
        return extra


def _put_pool(wanted: PoolSetting, session: Session) -> str:
    stored = Pool.get_pool(wanted.name, session=session)
    if stored and (stored.slots, stored.description or "") == (wanted.slots, wanted.description):
        return "unchanged"
    Pool.create_or_update_pool(
        wanted.name,
        wanted.slots,
        wanted.description,
        include_deferred=stored.include_deferred if stored else False,
        team_name=stored.team_name if stored else None,
        session=session,
    )
    return "updated" if stored else "created"


def _put_variable(wanted: VariableSetting, session: Session) -> str:
    stored = session.scalar(select(Variable).where(Variable.key == wanted.key))
    if stored and stored.get_val() == wanted.value:
        return "unchanged"
    Variable.set(wanted.key, wanted.value, description=stored.description if stored else None, session=session)
    return "updated" if stored else "created"


def _hiding(settings: Settings) -> list[str]:
    """Return the environment variables that hide an entry from every reader."""
    names = [f"AIRFLOW_CONN_{connection.conn_id.upper()}" for connection in settings.connections]
    names += [f"AIRFLOW_VAR_{variable.key.upper()}" for variable in settings.variables]
    return [name for name in names if name in os.environ]
