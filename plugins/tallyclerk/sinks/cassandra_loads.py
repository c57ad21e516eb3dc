"""The loads table: which generation of which window a Cassandra table holds (the cursor lives with the data).

Cassandra has no transaction over partitions, so a load is two rows' worth of protocol around plain writes:

1. *Begin*: a generation is claimed by a lightweight transaction, with the lake's table and version it will write. It is
   claimed before the first row, so that whoever comes later knows which keys a crashed attempt may have written.
2. *Finish*: written last, after every row is acknowledged, vanished rows are removed and the count is verified.

A reader that wants only signed data asks for the newest row with a ``finished_at``. Two attempts at once each claim first
and look second, hence at least one of them sees the other: the lower generation steps back
(:class:`ConcurrentLoadError`), the higher one removes what the lower may have written. Attempts of the same lake version
share one generation, write the same cells at the same timestamps, and cannot disturb each other.

All writes to this table are lightweight transactions, and all reads serial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import ONE_DAY, Window
from tallyclerk.exceptions import ConcurrentLoadError, TerminalError
from tallyclerk.sinks.cassandra_client import Backoff
from tallyclerk.sinks.cassandra_statements import Statements
from tallyclerk.sinks.cassandra_table import quoted

if TYPE_CHECKING:
    from cassandra.cluster import Session

LOADS_TABLE = "tallyclerk_loads"
MAX_GENERATION = ONE_DAY.days * 86_400 * 1_000_000 - 1
"""Generations are microseconds within a day: the next window's timestamps begin after them."""

_COLUMNS = "generation, table_id, version, location, fingerprint, started_at, finished_at, rows, receipt"


@dataclass(frozen=True, slots=True)
class LakeVersion:
    """What is loaded: a Delta table (by its own id, as a path may be created anew) at a version.

    :param fingerprint: digest over the window's data files, which Delta never changes, and the target's columns.
    """

    location: str
    table_id: str
    version: int
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Load:
    """One generation of a window. ``receipt`` is None while it is not finished."""

    generation: int
    lake: LakeVersion
    receipt: Receipt | None


def write_timestamp(window: Window, generation: int) -> int:
    """Microseconds: the window's end plus the generation.

    :raises TerminalError: the generation would reach into the next day's timestamps.
    """
    if not 0 <= generation <= MAX_GENERATION:
        raise TerminalError(
            f"Generation {generation:,} of {window.key} does not fit into a day of microseconds. "
            "Load into a new Cassandra table."
        )
    return window.end_microseconds + generation


class LoadsTable:
    """:param dataset: the contract's name. :param target: name of the Cassandra table without its keyspace."""

    def __init__(self, session: Session, *, keyspace: str, dataset: str, target: str, backoff: Backoff, address: str):
        self._keyspace, self._key = keyspace, (dataset, target)
        self._statements = Statements(session, backoff=backoff, address=address)
        self._name = f"{quoted(keyspace)}.{LOADS_TABLE}"

    @property
    def create_cql(self) -> str:
        return (
            f'CREATE TABLE IF NOT EXISTS {self._name} (dataset text, target text, "window" text, generation bigint, '
            "table_id text, version bigint, location text, fingerprint text, started_at timestamp, "
            "finished_at timestamp, rows bigint, receipt text, "
            'PRIMARY KEY ((dataset, target, "window"), generation)) WITH CLUSTERING ORDER BY (generation DESC)'
        )

    def name(self, window: Window) -> str:
        """The window's load, with the table that it is a load into, for messages."""
        return f"{load_name(self._key[0], window)} in {self._keyspace}.{self._key[1]}"

    def history(self, window: Window) -> list[Load]:
        """All generations, newest first."""
        rows = self._statements.run_serially(
            f'SELECT {_COLUMNS} FROM {self._name} WHERE dataset = ? AND target = ? AND "window" = ?',  # noqa: S608
            (*self._key, window.key),
            what="read loads",
            is_read=True,
        )
        return [
            Load(
                row.generation,
                LakeVersion(row.location, row.table_id, row.version, row.fingerprint),
                Receipt.from_json(row.receipt) if row.finished_at and row.receipt else None,
            )
            for row in rows
        ]

    def begin(self, window: Window, lake: LakeVersion, *, reload: bool) -> tuple[int, list[Load]]:
        """Claim a generation for this lake version.

        :return: the generation, and the older loads whose keys the window may still hold: the newest finished one and
            every unfinished one after it.
        :raises TerminalError: a newer version was loaded or begun, and this is no reload.
        :raises ConcurrentLoadError: a higher generation was claimed at the same time.
        """
        generation = self._choose(window, lake, self.history(window), reload=reload)
        while not self._claim(window, lake, generation):
            generation += 1
        history = self.history(window)
        if history[0].generation > generation:
            raise ConcurrentLoadError(
                load=load_name(self._key[0], window),
                cause=f"generation {history[0].generation} was begun while {generation} was",
            )
        return generation, possibly_present([load for load in history if load.generation < generation])

    def finish(self, window: Window, generation: int, receipt: Receipt) -> None:
        """Sign. Raises ConcurrentLoadError when a higher generation was begun meanwhile."""
        newest = self.history(window)[0].generation
        if newest > generation:
            raise ConcurrentLoadError(
                load=receipt.load, cause=f"generation {newest} was begun before {generation} was finished"
            )
        self._statements.run_serially(
            f"UPDATE {self._name} SET finished_at = ?, rows = ?, receipt = ? "  # noqa: S608
            'WHERE dataset = ? AND target = ? AND "window" = ? AND generation = ? IF EXISTS',
            (datetime.now(UTC), receipt.ledger.written, receipt.as_json(), *self._key, window.key, generation),
            what="sign load",
        )

    def _choose(self, window: Window, lake: LakeVersion, history: Sequence[Load], *, reload: bool) -> int:
        if not history:
            return lake.version
        newest = history[0]
        same_table = newest.lake.table_id == lake.table_id
        if same_table and newest.lake.version == lake.version:
            # an unfinished attempt of this very version is taken up again, cell by cell the same
            return newest.generation if newest.receipt is None else newest.generation + 1
        if same_table and newest.lake.version > lake.version and not reload:
            raise TerminalError(
                f"{self.name(window)} was loaded or begun from version "
                f"{newest.lake.version} of {lake.location}, so version {lake.version} comes too late. Load the newest "
                "version, or pass reload=True to go back on purpose."
            )
        return max(lake.version, newest.generation + 1)

    def _claim(self, window: Window, lake: LakeVersion, generation: int) -> bool:
        """False when another lake version holds this generation."""
        write_timestamp(window, generation)
        row = self._statements.run_serially(
            f'INSERT INTO {self._name} (dataset, target, "window", generation, table_id, version, location, '  # noqa: S608
            "fingerprint, started_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) IF NOT EXISTS",
            (*self._key, window.key, generation, lake.table_id, lake.version, lake.location, lake.fingerprint,
             datetime.now(UTC)),
            what="claim generation",
        )[0]  # fmt: skip
        return row.applied or (row.table_id == lake.table_id and row.version == lake.version)


def possibly_present(older: Sequence[Load]) -> list[Load]:
    """Of loads, newest first: those whose rows may stand in the table."""
    present: list[Load] = []
    for load in older:
        present.append(load)
        if load.receipt is not None:
            break
    return present
