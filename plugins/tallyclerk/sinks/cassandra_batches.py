"""Rows as statements: which rows share an UNLOGGED batch.

Measured on one node, 7 columns, one row per partition, client CPU: 811 µs a row for ``session.execute``, 182 for
``execute_concurrent_with_args``, 106 to 187 for single asynchronous statements, 40 for batches of 10 partitions and 20
for batches of 50. The server's CPU a row is that of single statements or less. So the default groups rows of one
replica set (as the Spark connector's ``replica_set``), but no more than 10 partitions and 4 KiB, since beyond
``unlogged_batch_across_partitions_warn_threshold`` (10) and ``batch_size_warn_threshold`` (5 KiB) each answer carries a
warning. A batch of one partition is one mutation to Cassandra and knows neither limit.

A coordinator that holds a replica of every row in the batch forwards nothing that single statements would not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import PreparedStatement, Statement

BatchGrouping = Literal["replica_set", "partition", "none"]

MAX_BATCH_ROWS = 50
MAX_BATCH_PARTITIONS = 10
MAX_PARTITION_BATCH_BYTES = 64 * 1024
MAX_MIXED_BATCH_BYTES = 4 * 1024
_BYTES_PER_CELL = 12  # what Cassandra adds for a cell's timestamp and flags when it measures a batch, about

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """Cuts a stream of rows into batches.

    :param partition_indexes: positions of the partition key's values in a row.
    :param replica_set_of: token → number of its replica set; None when every node holds every row.
    """

    kind: BatchGrouping
    partition_indexes: tuple[int, ...]
    replica_set_of: Callable[[int], int] | None = None

    def batches(self, rows: Iterable[Row]) -> Iterator[list[Row]]:
        """The rows in batches; rows of one partition share one where they are adjacent."""
        if self.kind == "none":
            yield from ([row] for row in rows)
        elif self.kind == "partition" or self.replica_set_of is None:
            yield from self._cut(rows, 1 if self.kind == "partition" else MAX_BATCH_PARTITIONS)
        else:
            by_replicas: dict[int, list[Row]] = {}
            for row in rows:
                by_replicas.setdefault(self.replica_set_of(self._token(row)), []).append(row)
            for group in by_replicas.values():
                yield from self._cut(group, MAX_BATCH_PARTITIONS)

    def _cut(self, rows: Iterable[Row], max_partitions: int) -> Iterator[list[Row]]:
        key_of = self._key
        batch: list[Row] = []
        partitions, filled_bytes, last_key = 0, 0, None
        for row in rows:
            key = key_of(row)
            is_new = key != last_key
            row_bytes = sum([len(value) + _BYTES_PER_CELL for value in row if type(value) is bytes])
            limit = MAX_PARTITION_BATCH_BYTES if partitions + is_new <= 1 else MAX_MIXED_BATCH_BYTES
            if batch and (
                len(batch) == MAX_BATCH_ROWS or partitions + is_new > max_partitions or filled_bytes + row_bytes > limit
            ):
                yield batch
                batch, partitions, filled_bytes, is_new = [], 0, 0, True
            batch.append(row)
            filled_bytes += row_bytes
            partitions += is_new
            last_key = key
        if batch:
            yield batch

    def _key(self, row: Row) -> Any:
        indexes = self.partition_indexes
        return row[indexes[0]] if len(indexes) == 1 else tuple([row[index] for index in indexes])

    def _token(self, row: Row) -> int:
        from cassandra.metadata import Murmur3Token

        return Murmur3Token.hash_fn(routing_key(row, self.partition_indexes))


def routing_key(row: Row, partition_indexes: Sequence[int]) -> bytes:
    """The partition key as Cassandra hashes it (composite keys: length, value and a zero each)."""
    if len(partition_indexes) == 1:
        return row[partition_indexes[0]]
    parts = [row[index] for index in partition_indexes]
    return b"".join([len(part).to_bytes(2, "big") + part + b"\0" for part in parts])


def replica_sets(session: Session, keyspace: str) -> Callable[[int], int] | None:
    """Token → number of the set of nodes that hold it; None when one set holds everything, or the ring is unknown."""
    metadata = session.cluster.metadata
    ring = metadata.token_map.ring if metadata.token_map else []
    if not ring or type(ring[0]).__name__ != "Murmur3Token":
        return None
    numbers: dict[frozenset[Any], int] = {}
    of_position = [
        numbers.setdefault(frozenset(metadata.token_map.get_replicas(keyspace, token)), len(numbers)) for token in ring
    ]
    if len(numbers) <= 1:
        return None
    ends = [token.value for token in ring]
    return lambda token: of_position[bisect_left(ends, token) % len(ends)]


def batch_statement(prepared: PreparedStatement, rows: Sequence[Row]) -> Statement:
    """One idempotent statement for rows of encoded values, ready to send.

    The values are already what goes over the wire, so they are handed to the statement without binding them again.
    """
    from cassandra.query import BatchStatement, BatchType, BoundStatement

    if len(rows) == 1:
        return _bound(BoundStatement, prepared, rows[0])
    batch = BatchStatement(BatchType.UNLOGGED)
    batch.is_idempotent = True
    for row in rows:
        batch.add(_bound(BoundStatement, prepared, row))
    return batch


def _bound(kind: Any, prepared: PreparedStatement, row: Row) -> Any:
    statement = kind(prepared)
    statement.values = row
    return statement
