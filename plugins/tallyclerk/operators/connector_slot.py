"""Dropping a replication slot: what nobody drops pins the database's log until the disk is full."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tallyclerk.exceptions import ServiceUnavailableError, SlotInUseError

if TYPE_CHECKING:
    import psycopg

_POLL_SECONDS = 0.5


def slot_exists(conninfo: str, slot: str) -> bool:
    """:raises ServiceUnavailableError: the database does not answer."""
    with _connection(conninfo) as connection:
        return _reader(connection, slot) is not None


def drop_slot(conninfo: str, slot: str, *, limit_seconds: float = 60) -> bool:
    """Drop ``slot`` if it exists; waits until the server has seen that its reader left.

    :param conninfo: a role with REPLICATION.
    :return: whether it existed.
    :raises SlotInUseError: it is still read from after ``limit_seconds``.
    :raises ServiceUnavailableError: the database does not answer.
    """
    import psycopg

    deadline = time.monotonic() + limit_seconds
    with _connection(conninfo) as connection:
        while True:
            reader = _reader(connection, slot)
            if reader is None:
                return False
            if reader[0] is None:
                try:
                    connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
                except psycopg.errors.ObjectInUse:
                    pass  # somebody came back between the two statements
                else:
                    return True
            if time.monotonic() > deadline:
                raise SlotInUseError(slot=slot, pid=reader[0])
            time.sleep(_POLL_SECONDS)


def _reader(connection: psycopg.Connection, slot: str) -> tuple[int | None] | None:
    """The server process that reads from the slot, or a None in its place; None when there is no such slot."""
    query = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s"
    return connection.execute(query, [slot]).fetchone()


@contextmanager
def _connection(conninfo: str) -> Iterator[psycopg.Connection]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        with psycopg.connect(conninfo, autocommit=True, connect_timeout=10) as connection:
            yield connection
    except psycopg.errors.ObjectInUse:
        raise
    except psycopg.OperationalError as error:
        address = conninfo_to_dict(conninfo)
        where = f"{address.get('host', 'localhost')}:{address.get('port', 5432)}"
        raise ServiceUnavailableError(service="PostgreSQL", address=where, cause=str(error).strip()) from error
