"""The newest values of a topic's keys into a Cassandra table, so that writing any of them again changes nothing.

A row bears a write timestamp made of its message's offset and the topic's generation. Cassandra itself keeps the newest cell,
so that a message that is written again, or after a newer one of its key, leaves the row as it is: whatever dies, is repeated or
runs twice at once. Rows expire: what is not written again is gone after ``ttl_seconds``.

No other writer may use the table with the server's clock: such a write outranks all of these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tallyclerk.exceptions import SpecError
from tallyclerk.sinks.cassandra_batches import Row, batch_statement
from tallyclerk.sinks.cassandra_client import BoundedWriter
from tallyclerk.sinks.cassandra_drains import base_timestamp
from tallyclerk.sinks.cassandra_retract import encoded_keys
from tallyclerk.sinks.cassandra_target import CassandraTarget
from tallyclerk.sinks.cassandra_values import encode_column, encoders

if TYPE_CHECKING:
    import pyarrow as pa

Nulls = Literal["delete", "unset"]

MAX_TTL_SECONDS = 20 * 365 * 86_400
"""Cassandra's own limit."""
_SLICE_ROWS = 20_000


class CassandraNewest:
    """:param ttl_seconds: how long a row lives after it was written; 0 is for ever.
    :param nulls: ``delete``: a column that is null in the newest value loses its cell. ``unset``: it keeps what an older value
        had there, and no tombstone is written.
    :param in_flight: statements on the way at a time.
    """

    def __init__(
        self, target: CassandraTarget, *, ttl_seconds: int, nulls: Nulls = "delete", in_flight: int = 32
    ) -> None:
        if not 0 <= ttl_seconds <= MAX_TTL_SECONDS:
            raise SpecError(f"ttl_seconds={ttl_seconds} is not between 0 (for ever) and {MAX_TTL_SECONDS:,}, 20 years.")
        self._target, self._nulls, self._in_flight = target, nulls, in_flight
        self._ttl = ttl_seconds.to_bytes(4, "big", signed=True)

    def write(self, rows: pa.Table, removed: pa.Table, *, offset_column: str, generation: int) -> BoundedWriter:
        """Upsert ``rows`` and delete the keys ``removed``; each key is once in both together.

        :param offset_column: of both, the offset of the row's message. :param generation: of the topic.
        :return: the writer, after every write was acknowledged.
        :raises RecordError: a value that the CQL type cannot hold exactly. Nothing of ``rows`` was written.
        :raises TallyclerkError: see ``cassandra_client.classify``.
        """
        table, base = self._target.table, base_timestamp(generation)
        writer = self._target.writer(self._in_flight)
        names = [column.name for column in table.columns]
        upserts = list(self._encoded(self._ordered(rows), base, offset_column))
        self._send(writer, table.expiring_insert_cql, upserts, names)
        deletions = (
            list(zip(_stamps(batch, base, offset_column), *zip(*keys, strict=True), strict=True))
            for batch in removed.to_batches()
            for keys in encoded_keys([batch], table)
            if keys
        )
        self._send(writer, table.delete_cql, deletions, ["", *table.primary_key])
        writer.drain()
        return writer

    def _send(self, writer: BoundedWriter, cql: str, parts: Iterator[list[Row]] | list[list[Row]], names: Any) -> None:
        prepared = None
        for part in parts:
            if prepared is None:
                prepared, grouping = self._target.prepared(cql), self._target.grouping("replica_set", names)
            for rows in grouping.batches(part):
                writer.send(batch_statement(prepared, rows), len(rows))

    def _ordered(self, rows: pa.Table) -> pa.Table:
        """Rows of one partition side by side, so that they share a batch."""
        table = self._target.table
        if not table.clustering_key or len(rows) < 2:
            return rows
        sources = {column.name: column.source for column in table.columns}
        return rows.sort_by([(sources[name], "ascending") for name in table.partition_key])

    def _encoded(self, rows: pa.Table, base: int, offset_column: str) -> Iterator[list[Row]]:
        """Everything is encoded before the first row is sent: a value that does not fit leaves the table as it was."""
        columns = self._target.table.columns
        row_encoders = encoders(self._target.table, rows.schema)
        for batch in rows.combine_chunks().to_batches(max_chunksize=_SLICE_ROWS):
            encoded = [
                self._column(column, batch.column(column.source), encoder)
                for column, encoder in zip(columns, row_encoders, strict=True)
            ]
            stamps = _stamps(batch, base, offset_column)
            yield list(zip(*encoded, stamps, [self._ttl] * batch.num_rows, strict=True))

    def _column(self, column: Any, values: pa.Array, encoder: Any) -> Sequence[Any]:
        encoded = encode_column(column, values, encoder, is_key=column.name in self._target.table.primary_key)
        if self._nulls == "unset" or not values.null_count:
            return encoded
        from cassandra.query import UNSET_VALUE

        return [None if value is UNSET_VALUE else value for value in encoded]


def _stamps(batch: pa.RecordBatch, base: int, offset_column: str) -> list[bytes]:
    stamps = batch.column(offset_column).to_numpy(zero_copy_only=False) + base
    return stamps.astype(">i8").view("V8").tolist()
