"""A logical replication slot of our own, with its publication: made, read to a position, moved forward, weighed, dropped.

A slot keeps the log from its position on, whatever that costs in disk: :meth:`ReplicationSlot.state` says how much, and a slot that nobody
reads any more must be dropped (:meth:`ReplicationSlot.drop`). Only one session at a time may read it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyclerk.contracts.projections import quoted
from tallyclerk.exceptions import ConcurrentLoadError, SpecError
from tallyclerk.sources.database_query import Relation
from tallyclerk.sources.database_snapshot import arrow_batches, complete_conninfo
from tallyclerk.sources.database_types import literal

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_PLUGIN = "pgoutput"
_ACTIVE_LIMIT_SECONDS = 60.0
_ACTIVE_POLL_SECONDS = 0.5


def lsn_text(lsn: int) -> str:
    """A position in the log as PostgreSQL writes it, ``16/B374D848``."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"


def lsn_number(text: str) -> int:
    """The inverse of :func:`lsn_text`."""
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


@dataclass(frozen=True, slots=True)
class SlotState:
    """:param confirmed: commits before it are not told again. :param restart: the log is kept from there on, because
    transactions that were open then may commit. :param retained_bytes: of log that is kept for the slot."""

    plugin: str
    database: str
    confirmed: int
    restart: int
    retained_bytes: int
    active_pid: int | None
    lost: bool


@dataclass(frozen=True, slots=True)
class ReplicationSlot:
    """:param name: of the slot, lower-case letters, digits and underscores. :param publication: of the one table."""

    name: str
    publication: str
    relation: Relation

    def check_publication(self, connection: psycopg.Connection) -> None:
        """Make the publication where it is missing.

        A slot finds the publication as it was at each change: it must be there before the slot.

        :raises SpecError: it exists, but is not one of this table with all changes.
        """
        import psycopg

        statement = f"CREATE PUBLICATION {quoted(self.publication)} FOR TABLE {self.relation.from_sql} WITH (publish_via_partition_root = true)"
        found = self._published(connection)
        if found is None:
            with suppress(psycopg.errors.DuplicateObject):  # another attempt was faster
                connection.execute(statement)
            found = self._published(connection)
        if found != (True, True, True, True, True, True):
            raise SpecError(
                f"The publication {self.publication} is not one of {self.relation.name} alone, with all rows and all kinds of "
                f"changes. Drop it, name another with `publication`, or make it: {statement}."
            )

    def _published(self, connection: psycopg.Connection) -> tuple[bool, ...] | None:
        return connection.execute(
            "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot, (SELECT count(*) = 1 AND "
            "bool_and(prrelid = %s::regclass AND prqual IS NULL AND prattrs IS NULL) FROM pg_publication_rel WHERE prpubid = p.oid) "
            "AND NOT puballtables AND NOT EXISTS (SELECT FROM pg_publication_namespace WHERE pnpubid = p.oid) FROM pg_publication p WHERE pubname = %s",
            [self.relation.from_sql, self.publication],
        ).fetchone()

    def state(self, connection: psycopg.Connection) -> SlotState | None:
        """None when there is no such slot."""
        row = connection.execute(
            "SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(confirmed_flush_lsn - '0/0', 0)::bigint, "
            "coalesce(restart_lsn - '0/0', 0)::bigint, coalesce(pg_current_wal_lsn() - restart_lsn, 0)::bigint, active_pid, "
            "coalesce(wal_status = 'lost', false) OR invalidation_reason IS NOT NULL "
            "FROM pg_replication_slots WHERE slot_name = %s",
            [self.name],
        ).fetchone()
        return SlotState(*row) if row else None

    def check_own(self, state: SlotState, database: str) -> None:
        """:raises SpecError: the slot is of another plugin or database, so that it is someone else's."""
        if (state.plugin, state.database) != (_PLUGIN, database):
            raise SpecError(
                f"The slot {self.name} is of {state.plugin or 'physical replication'} in database {state.database!r}, not ours. "
                "Name another with `slot`."
            )

    @contextmanager
    def create(self, conninfo: str) -> Iterator[tuple[int, str]]:
        """Make the slot; yields its position and the name of a snapshot that shows just what was committed before it.

        The snapshot can be joined until the context is left. Waits for the transactions that are open now.
        """
        import psycopg

        connection = psycopg.connect(complete_conninfo(conninfo) + " replication=database", autocommit=True)
        try:
            command = f"CREATE_REPLICATION_SLOT {quoted(self.name)} LOGICAL {_PLUGIN} (SNAPSHOT 'export')"
            result = connection.pgconn.exec_(command.encode())
            if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
                raise psycopg.errors.error_from_result(result)
            values = {
                (result.fname(place) or b"").decode(): (result.get_value(0, place) or b"").decode()
                for place in range(result.nfields)
            }
            yield lsn_number(values["consistent_point"]), values["snapshot_name"]
        finally:
            connection.close()

    def peek(self, conninfo: str, *, upto: int, messages: int, batch_bytes: int) -> Iterator[pa.BinaryArray]:
        """The slot's messages up to a position, whole transactions, and no more of them once ``messages`` are told.

        The slot stays where it is.
        """
        query = (
            f"SELECT data FROM pg_logical_slot_peek_binary_changes({literal(self.name)}, '{lsn_text(upto)}'::pg_lsn, {messages}, "  # noqa: S608
            f"'proto_version', '1', 'publication_names', {literal(quoted(self.publication))})"
        )
        for batch in arrow_batches(conninfo, query, batch_bytes=batch_bytes):
            yield batch.column(0)

    def advance(self, connection: psycopg.Connection, lsn: int) -> None:
        """Let the server forget what lies before a position."""
        state = self.state(connection)
        if state is not None and state.confirmed < lsn:
            connection.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", [self.name, lsn_text(lsn)])

    def drop(self, connection: psycopg.Connection) -> bool:
        """Drop the slot, and with it the log that is kept for it. False when there was none."""
        self.wait_until_free(connection)
        dropped = connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [self.name]
        )
        return dropped.rowcount > 0

    def drop_publication(self, connection: psycopg.Connection) -> None:
        """A slot that is left would then find no publication for what comes next."""
        connection.execute(f"DROP PUBLICATION IF EXISTS {quoted(self.publication)}")

    def wait_until_free(self, connection: psycopg.Connection) -> None:
        """Wait for a session that reads the slot: an attempt that was killed leaves one behind for a moment.

        :raises ConcurrentLoadError: it goes on reading.
        """
        deadline = time.monotonic() + _ACTIVE_LIMIT_SECONDS
        while (state := self.state(connection)) is not None and state.active_pid is not None:
            if time.monotonic() > deadline:
                raise ConcurrentLoadError(
                    load=f"slot {self.name}", cause=f"the session of process {state.active_pid} reads the slot"
                )
            time.sleep(_ACTIVE_POLL_SECONDS)
