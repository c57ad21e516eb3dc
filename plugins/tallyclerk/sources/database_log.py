"""Every committed change of one PostgreSQL table, from its log, up to now: log-based change capture in bounded runs.

**Once each.** A run reads the slot to the position that the log had reached on disk when it began, in pieces of whole
transactions. Each piece is sent with the position after it in its cursor, and only then the slot is moved there. A crash in
between leaves the slot behind the cursor: what it tells again has commits before the cursor's position, and is left out.

**No gap at the start.** The slot is made by the replication protocol, which exports a snapshot of exactly what was committed
before the slot's position (PostgreSQL 17, 47.2.5). The first rows are read in that snapshot, counted by the server there, and the
slot tells everything after it: no change lies between, none is in both. That a slot is being made is sent first, so that one left
behind by a crash is known to be ours and made anew.

**Large transactions** are sent in parts, because a sink's transaction has its limits: the cursor then also says how many of the
changes after its position are sent. The log tells the same changes in the same order each time.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.changes import READ, change_key, change_schema
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SlotBudgetError, SlotLostError, SpecError, TerminalError
from tallyclerk.sources.database_changes import (
    PART_BYTES,
    PART_ROWS,
    Begin,
    ChangePiece,
    ServerIdentity,
    check_cursor,
    joined,
    read_events,
    with_tombstones,
)
from tallyclerk.sources.database_decode import SpecialValues
from tallyclerk.sources.database_errors import Address, database_errors
from tallyclerk.sources.database_query import Relation, check_time_zone, describe
from tallyclerk.sources.database_rejects import Provenance
from tallyclerk.sources.database_rows import Rejects, plan_rows, read_rows, recent
from tallyclerk.sources.database_snapshot import SESSION, complete_conninfo, open_snapshot
from tallyclerk.sources.database_types import contract_plans
from tallyclerk.sources.log_events import LogEvents
from tallyclerk.sources.pgoutput import LogReader
from tallyclerk.sources.replica_identity import check_replica_identity
from tallyclerk.sources.replication_slot import ReplicationSlot, SlotState, lsn_number, lsn_text

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract

log = logging.getLogger(__name__)

METHOD = "log"
_BEGINNING, _FOLLOWING = "beginning", "following"
_BATCH_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChanges:
    """Follows one table through a slot; a :class:`~tallyclerk.sources.database_changes.ChangeSource`.

    Guarantees: each committed insert, update and delete is told once, in the order of the commits, deletions included; values
    are exact as :mod:`~tallyclerk.sources.database_types` has it; an unchanged large value is never taken for a null. An
    update that changes the key is the deletion of the old row and the creation of the new one.

    The table's history must be told completely (:mod:`~tallyclerk.sources.replica_identity`) and the login own the table and
    have REPLICATION. Columns that the contract does not name are not read; one that it names must stay.

    :param uri: libpq connection URI or keyword string. Never logged or repeated.
    :param slot, publication: ours alone; made at the first run.
    :param begin: what the first run sends. ``recent``: the rows of the last ``lookback_minutes`` by ``incremental_column``.
    :param begin_anew: make a new slot and send the rows again, as if there were no position.
    :param truncate: the table was truncated: ``fail``, or ``ignore`` it; the rows that went are not told one by one.
    :param slot_warn_bytes: of log kept for the slot: above it a warning, also when the run began late.
    :param slot_fail_bytes: above it, after everything was sent, :class:`~tallyclerk.exceptions.SlotBudgetError`.
    :param piece_messages: of the log that are asked for at once; the server answers with whole transactions.
    :param load_id, dataset: for quarantine.
    """

    uri: str = field(repr=False)
    table: str
    contract: Contract
    slot: str
    publication: str
    begin: Begin = "all"
    lookback_minutes: int = 0
    incremental_column: str | None = None
    begin_anew: bool = False
    tombstones: bool = True
    truncate: str = "fail"
    time_zone: str = "UTC"
    special_values: SpecialValues = "fail"
    slot_warn_bytes: int = 512 << 20
    slot_fail_bytes: int = 2 << 30
    piece_messages: int = 500_000
    part_rows: int = PART_ROWS
    part_bytes: int = PART_BYTES
    dataset: str = ""
    load_id: str = ""

    def pieces(self, cursor: Mapping[str, Any], window: Window, directory: Path) -> Iterator[ChangePiece]:
        """The changes since ``cursor``; see :class:`~tallyclerk.sources.database_changes.ChangeSource`.

        :raises SpecError: the table, its replica identity, the publication, the login or an argument is wrong.
        :raises SchemaMismatchError: a change of the table's columns, which the contract does not follow.
        :raises SlotLostError: the slot is gone, or has gone further than the cursor.
        :raises SlotBudgetError: see ``slot_fail_bytes``; everything has been sent.
        :raises RecordError: special values, under the policy ``fail``.
        :raises TransientError: the server is away, or another session reads the slot.
        """
        self._check()
        check_cursor(cursor, method=METHOD, table=self.table)
        address, run = Address.of(self.uri), None
        with database_errors(address, relation=self.table), self._connect() as connection:
            relation = Relation(self.table)
            run = _Run(self, connection, relation, window, f"{address.uri}/{relation.path}", directory)
            yield from run.pieces(cursor)

    def drop_slot(self) -> bool:
        """Drop the slot and its publication; the log that was kept for it goes. False when there was no slot.

        The next run then says :class:`~tallyclerk.exceptions.SlotLostError`, unless it begins anew.
        """
        with database_errors(Address.of(self.uri), relation=self.table), self._connect() as connection:
            slot = ReplicationSlot(self.slot, self.publication, Relation(self.table))
            state = slot.state(connection)
            if state is not None:
                slot.check_own(state, ServerIdentity.of(connection).database)
            dropped = slot.drop(connection)
            slot.drop_publication(connection)
            return dropped

    def _connect(self) -> psycopg.Connection:
        import psycopg

        connection = psycopg.connect(complete_conninfo(self.uri), autocommit=True)
        for setting in SESSION:
            connection.execute(setting.replace("SET LOCAL", "SET"))
        return connection

    def _check(self) -> None:
        check_time_zone(self.time_zone)
        for name, allowed in (
            ("begin", ("all", "recent", "nothing")),
            ("truncate", ("fail", "ignore")),
            ("special_values", ("fail", "null", "reject")),
        ):
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        if not self.slot or set(self.slot) - set("abcdefghijklmnopqrstuvwxyz0123456789_") or len(self.slot) > 63:
            raise SpecError(f"slot={self.slot!r}: write lower-case letters, digits and underscores, at most 63.")


@dataclass(slots=True)
class _Run:
    """One run of a source, in one session (and one more for each read)."""

    source: LogChanges
    connection: psycopg.Connection
    relation: Relation
    window: Window
    uri: str
    directory: Path
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def slot(self) -> ReplicationSlot:
        return ReplicationSlot(self.source.slot, self.source.publication, self.relation)

    def pieces(self, cursor: Mapping[str, Any]) -> Iterator[ChangePiece]:
        source, contract = self.source, self.source.contract
        server = ServerIdentity.of(self.connection)
        names = [column.name for column in contract.source_columns]
        check_replica_identity(self.connection, self.relation, key=change_key(contract), columns=names)
        self.slot.check_publication(self.connection)
        self.facts = {"uri": self.uri, "slot": source.slot, "method": METHOD, "records": 0, "transactions": 0}
        changed = server.difference(cursor) if cursor else None
        if changed:
            log.warning("%s is on another server than at its position (%s): every row is read again", self.uri, changed)
        position = dict(cursor)
        if changed or source.begin_anew:
            self.facts["begun_anew"] = changed or "as asked"
            position = yield from self._begin(cursor, server, "all")
        elif not cursor or cursor["phase"] == _BEGINNING:
            # what was begun by another run is finished as that one meant it
            position = yield from self._begin(cursor, server, cursor.get("begin", source.begin))
        yield from self._follow(position)

    def _begin(
        self, cursor: Mapping[str, Any], server: ServerIdentity, begin: Begin
    ) -> Generator[ChangePiece, None, dict[str, Any]]:
        """Make the slot and send the first rows; returns the cursor from which the log is followed."""
        source, slot = self.source, self.slot
        if (state := slot.state(self.connection)) is not None:
            slot.check_own(state, server.database)
            if not cursor:
                raise SpecError(
                    f"There is a slot {slot.name} already, and this data set has no position in it: it may be someone else's. "
                    f"Name another with `slot`, or drop it: SELECT pg_drop_replication_slot('{slot.name}')."
                )
        # before anything is sent or made: what is wrong with the table leaves the former position as it is
        names = [column.name for column in source.contract.source_columns]
        described = describe(self.connection, self.relation, names)
        contract_plans(self.relation.name, described, source.contract, time_zone=source.time_zone)
        base = {"method": METHOD, "table": source.table, "slot": slot.name, **server.as_dict()}
        beginning = {**base, "phase": _BEGINNING, "begin": begin}
        yield self._piece(change_schema(source.contract).empty_table(), beginning)
        slot.drop(self.connection)
        with slot.create(source.uri) as (lsn, exported), open_snapshot(source.uri, exported=exported) as snapshot:
            log.info("%s: slot %s begins at %s", self.uri, slot.name, lsn_text(lsn))
            following = {**base, "phase": _FOLLOWING, "lsn": lsn_text(lsn), "sent": 0}
            condition = "false" if begin == "nothing" else ""
            if begin == "recent":
                condition = recent(
                    snapshot, self.relation, source.contract,
                    column=source.incremental_column, minutes=source.lookback_minutes, time_zone=source.time_zone,
                )  # fmt: skip
            plans = plan_rows(snapshot, self.relation, source.contract, time_zone=source.time_zone)
            parts = read_rows(
                snapshot, self.relation, plans, condition, self._rejects(),
                part_rows=source.part_rows, part_bytes=source.part_bytes,
            )  # fmt: skip
            for part in parts:
                rows = [read_events(batch, source.contract, op=READ, lsn=lsn) for batch in part.batches]
                self.facts["records"] += part.read
                self.facts["read_rows"] = self.facts["records"]
                yield self._piece(
                    joined(rows, change_schema(source.contract)),
                    following if part.last else beginning,
                    read=part.read, rejected=part.rejected, rejects=part.rejects,
                )  # fmt: skip
        return following

    def _follow(self, cursor: dict[str, Any]) -> Iterator[ChangePiece]:
        """The changes after the cursor, up to where the log is on disk now."""
        before = self._usable(lsn_number(cursor["lsn"]))
        self._warn(before)
        row = self.connection.execute("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint").fetchone()
        assert row is not None
        target, last = row[0], False
        while not last:
            for piece in self._transactions(cursor, target):
                cursor, last = piece.cursor, piece.last
                yield piece
            self.slot.advance(self.connection, lsn_number(cursor["lsn"]))
        after = self.slot.state(self.connection)
        # the server lets go of the log a little later than it is read, but each run at least of some, unless it cannot
        if after and after.retained_bytes > self.source.slot_fail_bytes and after.restart == before.restart:
            raise SlotBudgetError(
                slot=self.slot.name, retained_bytes=after.retained_bytes, limit_bytes=self.source.slot_fail_bytes
            )

    def _transactions(self, cursor: Mapping[str, Any], target: int) -> Iterator[ChangePiece]:
        """As many whole transactions as are asked for at once, in parts that fit; the last part has the new position."""
        source = self.source
        since, told = lsn_number(cursor["lsn"]), 0
        reader = LogReader(change_key(source.contract))
        decoder = LogEvents(
            source.contract, self.relation.name, self.connection, self._rejects(),
            time_zone=source.time_zone, since=since, sent=int(cursor.get("sent", 0)),
        )  # fmt: skip
        answer = self.slot.peek(source.uri, upto=target, messages=source.piece_messages, batch_bytes=_BATCH_BYTES)
        for messages in answer:
            told += len(messages)
            for changes in reader.read(messages):
                decoder.add(changes)
            self._refuse_truncation(reader)
            if decoder.rows > source.part_rows or decoder.size > source.part_bytes:
                yield self._part(decoder, {**cursor, "sent": decoder.position}, last=False)
        reader.check_complete()
        self.facts["transactions"] += reader.transactions
        all_told = told < source.piece_messages
        position = max(since, reader.end_lsn, target if all_told else 0)
        yield self._part(decoder, {**cursor, "lsn": lsn_text(position), "sent": 0}, last=all_told or position >= target)

    def _part(self, decoder: LogEvents, cursor: dict[str, Any], *, last: bool) -> ChangePiece:
        found = decoder.take()
        self.facts["records"] += found.read
        self.facts["to"] = cursor["lsn"]
        rows, tombstones = with_tombstones(found.rows) if self.source.tombstones else (found.rows, None)
        return replace(
            self._piece(
                found.rows, cursor, read=found.read, rejected=found.rejected, repeated=found.repeated, rejects=found.rejects
            ),
            rows=rows, tombstones=tombstones, last=last,
        )  # fmt: skip

    def _piece(
        self,
        rows: pa.Table,
        cursor: dict[str, Any],
        *,
        read: int = 0,
        rejected: int = 0,
        repeated: int = 0,
        rejects: pa.Table | None = None,
    ) -> ChangePiece:
        ledger = Ledger(read=read, written=rows.num_rows, rejected=rejected, deduplicated=repeated)
        return ChangePiece(
            rows, ledger.check(load=self.relation.name), cursor, last=False, rejects=rejects, facts=dict(self.facts)
        )

    def _usable(self, lsn: int) -> SlotState:
        """Wait for the slot and see that it goes on just where the cursor is, or before."""
        slot = self.slot
        slot.wait_until_free(self.connection)
        state = slot.state(self.connection)
        if state is None:
            raise SlotLostError(slot=slot.name, cause="it does not exist any more")
        slot.check_own(state, ServerIdentity.of(self.connection).database)
        if state.lost:
            raise SlotLostError(slot=slot.name, cause="the server gave up the log it needs (max_slot_wal_keep_size)")
        if state.confirmed > lsn:
            raise SlotLostError(
                slot=slot.name,
                cause=f"it has gone on to {lsn_text(state.confirmed)}, but only the changes up to {lsn_text(lsn)} were sent; "
                "somebody else reads it, or made it anew",
            )
        return state

    def _warn(self, state: SlotState) -> None:
        self.facts["slot_retained_bytes"] = state.retained_bytes
        if state.retained_bytes > min(self.source.slot_warn_bytes, self.source.slot_fail_bytes):
            log.warning(
                "The slot %s keeps %s bytes of the database's log (warning above %s, failure above %s); the table's changes are "
                "read now. Run more often, or end what keeps a transaction open.",
                self.slot.name, f"{state.retained_bytes:,}", f"{self.source.slot_warn_bytes:,}", f"{self.source.slot_fail_bytes:,}",
            )  # fmt: skip

    def _refuse_truncation(self, reader: LogReader) -> None:
        if not reader.truncated:
            return
        self.facts["truncations"] = len(reader.truncated)
        if self.source.truncate == "fail":
            raise TerminalError(
                f"{self.relation.name} was truncated at {lsn_text(reader.truncated[0])}: its rows went without a change of their own, "
                "and the readers of the topic still have them. Nothing after the last commit was sent. Pass truncate='ignore' when that is right."
            )
        log.warning("%s was truncated %d times; not told to readers", self.relation.name, len(reader.truncated))

    def _rejects(self) -> Rejects:
        source = self.source
        provenance = Provenance(
            dataset=source.dataset or source.contract.dataset, window=self.window.key, source=self.uri,
            load_id=source.load_id, contract_version=source.contract.version,
        )  # fmt: skip
        return Rejects(self.directory, provenance, source.special_values)
