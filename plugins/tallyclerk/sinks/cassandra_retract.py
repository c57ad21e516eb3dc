"""What a corrected window no longer has: rows that vanished and cells that became null.

An upsert alone would leave both, the second because nulls are left unset. There are two ways to find them:

``time_travel``
    Compare the lake's new version with every version whose rows may stand in Cassandra. Costs two scans of the keys in
    the lake, and nothing on a first load.
``table_scan``
    Read the whole Cassandra table and take what bears a write timestamp of this window (its end plus a generation) that
    is older than this load. Needs no old version, but costs a scan of all windows; rows that are nothing but their key
    have no write time and stay.

Deletes bear the load's own timestamp: they win over older writes of the window, whenever those arrive, and lose against
any later generation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError, VersionLostError
from tallyclerk.sinks.cassandra_batches import Row, batch_statement
from tallyclerk.sinks.cassandra_client import BoundedWriter
from tallyclerk.sinks.cassandra_lake import LakeWindow
from tallyclerk.sinks.cassandra_loads import LakeVersion, Load
from tallyclerk.sinks.cassandra_table import TargetColumn, TargetTable, quoted
from tallyclerk.sinks.cassandra_values import encode_column, encoders

if TYPE_CHECKING:
    import pyarrow as pa
    from cassandra.cluster import Session

Retraction = Literal["time_travel", "table_scan"]


def encoded_keys(batches: Iterable[pa.RecordBatch], target: TargetTable) -> Iterator[list[Row]]:
    """Lake batches as encoded keys, in the key's order."""
    keys_only = TargetTable(
        target.keyspace, target.table, target.key_columns, target.partition_key, target.clustering_key
    )
    for batch in batches:
        columns = [
            encode_column(column, batch.column(column.source), encoder, is_key=True)
            for column, encoder in zip(target.key_columns, encoders(keys_only, batch.schema), strict=True)
        ]
        yield list(zip(*columns, strict=True))


class Retractor:
    """Deletes through ``writer`` with ``timestamp``. ``prepare`` prepares an idempotent statement."""

    def __init__(self, writer: BoundedWriter, prepare: Any, target: TargetTable, *, timestamp: int) -> None:
        self._writer, self._prepare, self._target, self._timestamp = writer, prepare, target, timestamp
        self._stamp = timestamp.to_bytes(8, "big", signed=True)

    def by_time_travel(
        self, lake: LakeWindow, identity: LakeVersion, older: Sequence[Load], nullable: Sequence[TargetColumn],
        options: dict[str, str] | None,
    ) -> tuple[int, int]:  # fmt: skip
        """:param nullable: columns of which this version has nulls.

        :return: rows and cells removed.
        """
        rows = cells = 0
        for load in older:
            if load.lake.fingerprint == identity.fingerprint:
                continue
            before = _open_older(lake, identity, load.lake, options)
            if not before.files:
                continue
            rows += self._delete(
                self._target.delete_cql, encoded_keys(lake.vanished_keys(before, self._target), self._target)
            )
            for column in nullable:
                if column.source in before.schema.names:
                    keys = lake.emptied_keys(before, self._target, column.source)
                    cells += self._delete(self._delete_cell_cql(column.name), encoded_keys(keys, self._target))
        return rows, cells

    def by_table_scan(self, session: Session, window: Window) -> tuple[int, int]:
        """Rows and cells removed: those of older generations of this window."""
        keys = ", ".join(quoted(name) for name in self._target.primary_key)
        others = [column.name for column in self._target.columns if column.name not in self._target.primary_key]
        if not others:
            raise SpecError(f"{self._target.name} has only key columns, whose write times Cassandra does not tell.")
        times = ", ".join(f"writetime({quoted(name)})" for name in others)
        key_types = self._prepare(self._target.delete_cql).column_metadata[1:]
        width = len(self._target.primary_key)
        rows = cells = 0
        for row in session.execute(f"SELECT {keys}, {times} FROM {self._target.cql_name}"):  # noqa: S608
            written = [time for time in row[width:] if time is not None]
            if not written or not window.end_microseconds <= max(written) <= self._timestamp:
                continue
            key = tuple(kind.type.serialize(value, 5) for kind, value in zip(key_types, row[:width], strict=True))
            if max(written) < self._timestamp:
                rows += self._delete(self._target.delete_cql, [[key]])
                continue
            for name, time in zip(others, row[width:], strict=True):
                if time is not None and time < self._timestamp:
                    cells += self._delete(self._delete_cell_cql(name), [[key]])
        return rows, cells

    def _delete(self, cql: str, keys: Iterable[list[Row]]) -> int:
        deleted = 0
        for batch in keys:
            prepared = self._prepare(cql)
            for key in batch:
                self._writer.send(batch_statement(prepared, [(self._stamp, *key)]), 0)
            deleted += len(batch)
        return deleted

    def _delete_cell_cql(self, name: str) -> str:
        return self._target.delete_cql.replace("DELETE FROM", f"DELETE {quoted(name)} FROM", 1)


def _open_older(
    lake: LakeWindow, identity: LakeVersion, older: LakeVersion, options: dict[str, str] | None
) -> LakeWindow:
    if older.table_id != identity.table_id:
        raise VersionLostError(uri=older.location, day=lake.day, version=older.version)
    try:
        return LakeWindow(lake.uri, lake.day, version=older.version, storage_options=options)
    except SpecError as error:
        raise VersionLostError(uri=older.location, day=lake.day, version=older.version) from error
