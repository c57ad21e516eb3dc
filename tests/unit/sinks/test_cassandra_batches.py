"""Which rows share a batch."""

from __future__ import annotations

from cassandra.query import UNSET_VALUE
from hypothesis import given
from hypothesis import strategies as st

from tallyclerk.sinks.cassandra_batches import (
    MAX_BATCH_PARTITIONS,
    MAX_BATCH_ROWS,
    MAX_MIXED_BATCH_BYTES,
    Grouping,
    routing_key,
)

ROWS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1500)), max_size=300)


def rows_of(numbers: list[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
    return [(bytes([key]), bytes(size)) for key, size in numbers]


@given(ROWS)
def test_no_row_is_lost_or_moved_when_grouped_by_partition(numbers: list[tuple[int, int]]) -> None:
    rows = rows_of(numbers)
    batches = list(Grouping("partition", (0,)).batches(rows))
    assert [row for batch in batches for row in batch] == rows
    assert all(len(batch) <= MAX_BATCH_ROWS and len({row[0] for row in batch}) == 1 for batch in batches)


@given(ROWS)
def test_mixed_batches_stay_below_what_cassandra_warns_of(numbers: list[tuple[int, int]]) -> None:
    rows = rows_of(numbers)
    batches = list(Grouping("replica_set", (0,)).batches(rows))
    assert [row for batch in batches for row in batch] == rows
    for batch in batches:
        if len({row[0] for row in batch}) > 1:
            assert len({row[0] for row in batch}) <= MAX_BATCH_PARTITIONS
            assert sum(len(row[1]) for row in batch) <= MAX_MIXED_BATCH_BYTES


@given(ROWS)
def test_a_batch_is_of_one_replica_set_when_nodes_hold_different_rows(numbers: list[tuple[int, int]]) -> None:
    rows = rows_of(numbers)
    batches = list(Grouping("replica_set", (0,), lambda token: token % 3).batches(rows))
    assert sorted(row for batch in batches for row in batch) == sorted(rows)
    grouping = Grouping("replica_set", (0,))
    assert all(len({grouping._token(row) % 3 for row in batch}) == 1 for batch in batches)


def test_rows_go_alone_when_there_is_no_grouping() -> None:
    rows = rows_of([(1, 1), (1, 2), (2, 3)])
    assert list(Grouping("none", (0,)).batches(rows)) == [[row] for row in rows]


def test_unset_values_take_no_room() -> None:
    rows = [(b"k", UNSET_VALUE)] * MAX_BATCH_ROWS
    assert [len(batch) for batch in Grouping("replica_set", (0,)).batches(rows)] == [MAX_BATCH_ROWS]


def test_composite_keys_are_routed_as_cassandra_hashes_them() -> None:
    assert routing_key((b"ab", b"x", b"c"), (0, 2)) == b"\x00\x02ab\x00\x00\x01c\x00"
