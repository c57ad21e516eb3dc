"""The drains table: how far a topic was written into a Cassandra table (the cursor lives with the data).

A position is moved only after every write before it was acknowledged, and only forward, by a lightweight transaction: of two
drains at once each adds what it knows, and neither takes the other's back. All writes to this table are such, and all reads
serial.

A topic that is deleted and made anew counts its offsets from 0 again. Then a higher generation is claimed, before the first row,
so that whatever a drain of the new topic may have written outranks the old one's rows, also when it died before its first
position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import ConcurrentLoadError, TerminalError
from tallyclerk.sinks.cassandra_client import Backoff
from tallyclerk.sinks.cassandra_statements import Statements
from tallyclerk.sinks.cassandra_table import quoted

if TYPE_CHECKING:
    from cassandra.cluster import Session

DRAINS_TABLE = "tallyclerk_drains"
_OFFSET_BITS = 44
_GENERATION_BITS = 18

_COLUMNS = "topic, topic_id, generation, offsets, receipt, updated_at, revision, attempt"


def base_timestamp(generation: int) -> int:
    """To which a message's offset is added to make its write timestamp.

    Room for 17 trillion offsets in a generation. All of it is far below the server's clock, in microseconds.

    :raises TerminalError: the generations are used up.
    """
    if not 0 < generation < 1 << _GENERATION_BITS:
        raise TerminalError(f"Generation {generation:,} of a topic is too high. Drain into a new Cassandra table.")
    return generation << _OFFSET_BITS


@dataclass(frozen=True, slots=True)
class DrainPosition:
    """:param topic_id: of the topic whose offsets these are. :param generation: of topics under this cursor, from 1.
    :param offsets: partition → next offset; what is before it is written.
    :param receipt: of the newest drain; None before the first one's end.
    :param revision: of the row. :param attempt: who wrote it.
    """

    topic: str
    topic_id: str
    generation: int
    offsets: Mapping[int, int] = field(default_factory=dict)
    receipt: Receipt | None = None
    revision: int = 1
    attempt: str = ""


@dataclass(frozen=True, slots=True)
class KnownDrain:
    """A row of the drains table: where a drain stands, and when it was moved there (UTC)."""

    dataset: str
    target: str
    position: DrainPosition
    updated_at: datetime


def known_drains(session: Session, *, keyspace: str, backoff: Backoff, address: str) -> list[KnownDrain]:
    """Every drain into tables of a keyspace, by name: for looking at. Who goes on from a position reads it by :class:`DrainsTable`."""
    cql = f"SELECT dataset, target, {_COLUMNS} FROM {quoted(keyspace)}.{DRAINS_TABLE}"  # noqa: S608
    rows = Statements(session, backoff=backoff, address=address).run(cql, what="read the drains")
    found = (KnownDrain(row.dataset, row.target, _position_in(row), row.updated_at.replace(tzinfo=UTC)) for row in rows)
    return sorted(found, key=lambda drain: (drain.dataset, drain.target))


class DrainsTable:
    """:param dataset: the contract's name. :param target: name of the Cassandra table without its keyspace."""

    def __init__(self, session: Session, *, keyspace: str, dataset: str, target: str, backoff: Backoff, address: str):
        self._key = (dataset, target)
        self._statements = Statements(session, backoff=backoff, address=address)
        self._name = f"{quoted(keyspace)}.{DRAINS_TABLE}"
        self.drain = f"{dataset} into {keyspace}.{target}"

    @property
    def create_cql(self) -> str:
        return (
            f"CREATE TABLE IF NOT EXISTS {self._name} (dataset text, target text, topic text, topic_id text, "
            "generation bigint, offsets map<int, bigint>, receipt text, updated_at timestamp, revision bigint, attempt text, "
            "PRIMARY KEY ((dataset, target)))"
        )

    def read(self) -> DrainPosition | None:
        """Where the drain stands; None when it never began."""
        rows = self._statements.run_serially(
            f"SELECT {_COLUMNS} FROM {self._name} WHERE dataset = ? AND target = ?",  # noqa: S608
            self._key,
            what="read the drain's position",
            is_read=True,
        )
        if not rows:
            return None
        return _position_in(rows[0])

    def claim(self, topic: str, topic_id: str) -> DrainPosition:
        """The position in this topic: what is there, or the beginning of a new generation."""
        while True:
            held = self.read()
            if held is not None and held.topic_id == topic_id:
                return held
            base_timestamp(generation := held.generation + 1 if held else 1)
            begun = DrainPosition(topic, topic_id, generation, revision=held.revision + 1 if held else 1)
            if self._write(begun, after=held):
                return begun

    def advance(self, position: DrainPosition, ends: Mapping[int, int], receipt: Receipt) -> DrainPosition:
        """Move to ``ends``; called when every write before them is acknowledged.

        :return: the new position, with what another drain of the same topic added meanwhile.
        :raises ConcurrentLoadError: another drain has begun with a topic made anew.
        """
        while True:
            offsets = dict(position.offsets)
            for partition, end in ends.items():
                offsets[partition] = max(offsets.get(partition, end), end)
            moved = replace(
                position, offsets=offsets, receipt=receipt, revision=position.revision + 1, attempt=uuid4().hex
            )
            if self._write(moved, after=position):
                return moved
            held = self.read()
            if held is not None and held.attempt == moved.attempt:
                return held  # it was this one's: its answer got lost, and the repeated statement did not apply
            if held is None or held.generation != position.generation:
                found = f"its position is now {held.generation if held else 'gone'}, not of generation {position.generation}"
                raise ConcurrentLoadError(load=self.drain, cause=found)
            position = held

    def _write(self, position: DrainPosition, *, after: DrainPosition | None) -> bool:
        """False when the row is not at the revision ``after``: a repeated one does not apply, and ``attempt`` tells who wrote it."""
        values = (
            position.topic, position.topic_id, position.generation, dict(position.offsets),
            position.receipt.as_json() if position.receipt else None, datetime.now(UTC), position.revision,
            position.attempt,
        )  # fmt: skip
        if after is None:
            cql = f"INSERT INTO {self._name} (dataset, target, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS"  # noqa: S608
            return self._statements.run_serially(cql, (*self._key, *values), what="begin a drain")[0].applied
        settings = ", ".join(f"{name} = ?" for name in _COLUMNS.split(", "))
        cql = f"UPDATE {self._name} SET {settings} WHERE dataset = ? AND target = ? IF revision = ?"  # noqa: S608
        return self._statements.run_serially(
            cql, (*values, *self._key, after.revision), what="move the drain's position"
        )[0].applied


def _position_in(row: Any) -> DrainPosition:
    return DrainPosition(
        row.topic, row.topic_id, row.generation, dict(row.offsets or {}),
        Receipt.from_json(row.receipt) if row.receipt else None, row.revision, row.attempt,
    )  # fmt: skip
