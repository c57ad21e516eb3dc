"""What both kinds of change capture share: a piece of changes, the server it came from, and events out of rows.

Two sources read the changes of a table: :class:`~tallyclerk.sources.database_log.LogChanges` follows PostgreSQL's log and sees
every committed change; :class:`~tallyclerk.sources.database_xmin.QueryChanges` queries the table and sees final versions only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tallyclerk.contracts.changes import DELETE, change_schema
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import psycopg
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract

Begin = Literal["all", "recent", "nothing"]
"""What the first run sends as events of op ``r``: all rows, those of the last minutes, or none."""

PART_ROWS, PART_BYTES = 800_000, 256 << 20
"""Of one part: as many changes are in memory, and sent in one transaction of the sink. Tombstones may double them."""


@dataclass(frozen=True, slots=True)
class ChangePiece:
    """Changes that are sent in one transaction.

    :param rows: events by :func:`~tallyclerk.contracts.changes.change_schema`, with a second row after each deletion where
        tombstones are wanted.
    :param ledger: of this piece alone. Tombstones do not count.
    :param cursor: the source's position after it.
    :param last: the run ends with it.
    :param rejects: in the quarantine's schema.
    :param facts: of the source so far, for the receipt.
    """

    rows: pa.Table
    ledger: Ledger
    cursor: dict[str, Any]
    last: bool
    tombstones: pa.BooleanArray | None = None
    rejects: pa.Table | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class ChangeSource(Protocol):
    """Reads the changes of one table since a position."""

    def pieces(self, cursor: Mapping[str, Any], window: Window, directory: Path) -> Iterator[ChangePiece]:
        """The changes since ``cursor`` (empty at the first run) until now, at least one piece, the last one marked.

        Whoever takes a piece commits it, its cursor with it, and only then asks for the next: the source then forgets what it no
        longer needs. A piece that was not committed comes again at the next run.

        :param window: the load's, for quarantine; which changes are read does not depend on it.
        :param directory: where rejects are spooled meanwhile.
        """


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Which database's history a position belongs to.

    A restored backup has the identifier of its origin, and a promoted standby too; only the timeline tells that from
    some point on the history is another one (PostgreSQL 17, 25.3.5).
    """

    system: str
    timeline: int
    database: str

    @classmethod
    def of(cls, connection: psycopg.Connection) -> ServerIdentity:
        # the control file learns of a new timeline at its first checkpoint only, the name of the log's file at once;
        # a standby has no such name
        row = connection.execute(
            "SELECT system_identifier::text, CASE WHEN pg_is_in_recovery() "
            "THEN (SELECT timeline_id FROM pg_control_checkpoint()) "
            "ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END, current_database() "
            "FROM pg_control_system()"
        ).fetchone()
        assert row is not None
        return cls(*row)

    def difference(self, cursor: Mapping[str, Any]) -> str | None:
        """How the server differs from that of a position, None when it is the same."""
        then = {name: cursor.get(name) for name in ("system", "timeline", "database")}
        now = self.as_dict()
        changed = [f"{name} {then[name]} → {now[name]}" for name in then if then[name] != now[name]]
        return ", ".join(changed) or None

    def as_dict(self) -> dict[str, Any]:
        return {"system": self.system, "timeline": self.timeline, "database": self.database}


def check_cursor(cursor: Mapping[str, Any], *, method: str, table: str) -> None:
    """:raises SpecError: a position of the other method or of another table."""
    if cursor and (cursor.get("method"), cursor.get("table")) != (method, table):
        raise SpecError(
            f"This data set's position is one of method {cursor.get('method')!r} in {cursor.get('table')!r}, not of {method!r} "
            f"in {table!r}. Give the new way a `dataset` of its own; it then begins anew."
        )


def events(
    rows: pa.RecordBatch, contract: Contract, *, ops: pa.StringArray, lsn: pa.Int64Array, committed_ms: pa.Int64Array
) -> pa.Table:
    """Rows of the contract's columns as change events."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = [rows.column(name) for name in (column.name for column in contract.source_columns)]
    return pa.Table.from_arrays(
        [*columns, ops, lsn, committed_ms, pc.equal(ops, DELETE)], schema=change_schema(contract)
    )


def read_events(rows: pa.RecordBatch, contract: Contract, *, op: str, lsn: int | None = None) -> pa.Table:
    """Rows that were read from the table as change events; when they were committed is not known."""
    import pyarrow as pa

    count = rows.num_rows
    return events(
        rows,
        contract,
        ops=pa.repeat(op, count),
        lsn=pa.nulls(count, pa.int64()) if lsn is None else pa.repeat(pa.scalar(lsn, pa.int64()), count),
        committed_ms=pa.nulls(count, pa.int64()),
    )


def joined(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """The tables as one, empty when there is none."""
    import pyarrow as pa

    return pa.concat_tables(tables) if tables else schema.empty_table()


def with_tombstones(rows: pa.Table) -> tuple[pa.Table, pa.BooleanArray]:
    """Each deletion twice, and which rows are the second ones: those go out as tombstones."""
    import numpy as np
    import pyarrow as pa

    deleted: npt.NDArray[np.bool_] = rows.column("__deleted").to_numpy()
    if not deleted.any():
        return rows, pa.array(np.zeros(rows.num_rows, bool))
    row = np.repeat(np.arange(rows.num_rows), 1 + deleted)
    second = np.append(False, row[1:] == row[:-1])
    return rows.take(pa.array(row)), pa.array(second)
