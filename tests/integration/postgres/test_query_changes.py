"""Query capture before a real PostgreSQL: the final version of every changed row, once, whatever was open meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tallyclerk.exceptions import SpecError
from tallyclerk.sources.database_snapshot import open_snapshot
from tallyclerk.sources.database_xmin import QueryChanges
from tallyclerk.sources.transaction_ids import TransactionSpan, unpack_ids
from tests.integration.postgres.capturing import COLUMNS, TABLE, Captured, capture, item_contract

pytestmark = pytest.mark.integration

Source = Callable[..., QueryChanges]


@pytest.fixture
def table(db: psycopg.Connection, schema: str) -> str:
    name = f"items_{uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {name} {TABLE}")
    return f"{schema}.{name}"


@pytest.fixture
def source(uri: str, table: str, tmp_path: Path) -> Source:
    def make(columns: str = COLUMNS, **options: Any) -> QueryChanges:
        return QueryChanges(**{"uri": uri, "table": table, "contract": item_contract(tmp_path, columns), **options})

    return make


def labels(captured: Captured, since: int = 0) -> list[tuple[str, int, str]]:
    return sorted((event["__op"], event["id"], event["label"]) for event in captured.events[since:])


def test_only_the_last_versions_come_when_rows_change_between_runs(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} SELECT i, 'first' FROM generate_series(1, 50) i")
    query = source()
    captured = capture(query, tmp_path)
    assert [event["__op"] for event in captured.events] == ["r"] * 50
    db.execute(f"UPDATE {table} SET label = 'second' WHERE id = 1")
    db.execute(f"UPDATE {table} SET label = 'third' WHERE id = 1")
    db.execute(f"INSERT INTO {table} VALUES (51, 'new')")
    db.execute(f"DELETE FROM {table} WHERE id = 2")
    capture(query, tmp_path, captured)
    assert labels(captured, 50) == [("u", 1, "third"), ("u", 51, "new")]
    assert {(event["__lsn"], event["__ts_ms"], event["__deleted"]) for event in captured.events} == {
        (None, None, False)
    }
    assert "no deletions" in captured.pieces[-1].facts["blind"]
    capture(query, tmp_path, captured)
    assert len(captured.events) == 52


def test_nothing_is_lost_or_doubled_when_transactions_and_savepoints_overlap_the_runs(
    db: psycopg.Connection, uri: str, table: str, source: Source, tmp_path: Path
) -> None:
    query = source()
    captured = capture(query, tmp_path)
    with psycopg.connect(uri) as slow:
        slow.execute(f"INSERT INTO {table} VALUES (1, 'began before')")
        with slow.transaction():
            slow.execute(f"INSERT INTO {table} VALUES (2, 'savepoint before')")
        db.execute(f"INSERT INTO {table} VALUES (3, 'committed meanwhile')")
        capture(query, tmp_path, captured)
        assert labels(captured) == [("u", 3, "committed meanwhile")]
        with slow.transaction():
            slow.execute(f"INSERT INTO {table} VALUES (4, 'savepoint after')")
            with slow.transaction(force_rollback=True):
                slow.execute(f"INSERT INTO {table} VALUES (5, 'rolled back')")
        db.execute(f"INSERT INTO {table} VALUES (6, 'also meanwhile')")
        capture(query, tmp_path, captured)
        assert captured.pieces[-1].ledger.deduplicated == 1
    capture(query, tmp_path, captured)
    capture(query, tmp_path, captured)
    assert labels(captured) == [
        ("u", 1, "began before"),
        ("u", 2, "savepoint before"),
        ("u", 3, "committed meanwhile"),
        ("u", 4, "savepoint after"),
        ("u", 6, "also meanwhile"),
    ]


@pytest.mark.parametrize("how", ["VACUUM (FREEZE) {}", "VACUUM (FULL, FREEZE) {}"])
def test_rows_are_neither_lost_nor_sent_again_when_they_are_frozen(
    how: str, db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} SELECT i, 'first' FROM generate_series(1, 20) i")
    query = source()
    captured = capture(query, tmp_path)
    db.execute(f"UPDATE {table} SET label = 'second' WHERE id <= 5")
    db.execute(how.format(table))  # type: ignore[arg-type]
    capture(query, tmp_path, captured)
    assert labels(captured, 20) == [("u", number, "second") for number in range(1, 6)]
    db.execute(how.format(table))  # type: ignore[arg-type]
    capture(query, tmp_path, captured)
    assert len(captured.events) == 25


def test_rows_come_when_they_were_copied_frozen(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    query = source()
    captured = capture(query, tmp_path)
    with db.transaction():
        db.execute(f"TRUNCATE {table}")
        with db.cursor() as cursor, cursor.copy(f"COPY {table} (id, label) FROM STDIN (FREEZE)") as copy:
            copy.write_row((1, "frozen"))
    capture(query, tmp_path, captured)
    capture(query, tmp_path, captured)
    assert labels(captured) == [("u", 1, "frozen")]


@pytest.mark.parametrize("age", ["below", "above"])
def test_the_condition_holds_on_the_circle_when_ids_came_round(age: str, db: psycopg.Connection, uri: str) -> None:
    """The server's own ids are few: so what it takes for old ones are ids of an earlier round."""
    with open_snapshot(uri) as snapshot:
        end = TransactionSpan.of(snapshot.transactions).end + 5 * 2**32
        span = TransactionSpan(end, end)
        horizon = end - end % 2**32 - 1_000  # between them the ids come round
        far = end - horizon
        distances = {"above": (1, 2, far - 1, far), "below": (0, -1, far + 1, 2**31 - 1, 2**31, 3 * 2**30)}[age]
        ids = [(end - distance) % 2**32 for distance in distances if (end - distance) % 2**32 >= 3]
        ids += [] if age == "above" else [1, 2]  # what was frozen before PostgreSQL 9.4
        found = snapshot.connection.execute(
            f"SELECT {span.since(horizon, column='id')} FROM unnest(%s::text[]::xid[]) AS id", [[str(i) for i in ids]]
        ).fetchall()
    assert {answer for (answer,) in found} == {age == "above"}
    assert len(found) == len(ids) > 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"system": "1"}, "system 1 → "),
        ({"timeline": 9}, "timeline 9 → 1"),
        ({"horizon": 10**15}, "the position is of transaction 1000000000000000"),
        ({"horizon": -(3 * 10**9)}, "the position is of transaction -3000000000"),
    ],
)
def test_every_row_is_read_again_when_the_position_is_not_of_this_history(
    change: dict[str, Any], reason: str, db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} VALUES (1, 'first')")
    query = source()
    captured = capture(query, tmp_path)
    other = Captured([replace(captured.pieces[-1], cursor={**captured.cursor, **change})])
    capture(query, tmp_path, other)
    assert labels(other) == [("r", 1, "first")] * 2
    assert reason in other.pieces[-1].facts["begun_anew"]
    capture(query, tmp_path, other)
    assert len(other.events) == 2


def test_the_first_run_sends_the_last_minutes_when_it_is_told_to(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(
        f"INSERT INTO {table} (id, label, changed_at) VALUES (1, 'old', now() - interval '2 hours'), (2, 'young', now())"
    )
    query = source(begin="recent", lookback_minutes=60, incremental_column="changed_at")
    captured = capture(query, tmp_path)
    assert labels(captured) == [("r", 2, "young")]
    db.execute(f"UPDATE {table} SET label = 'touched' WHERE id = 1")
    capture(query, tmp_path, captured)
    assert labels(captured, 1) == [("u", 1, "touched")]
    with pytest.raises(SpecError, match="incremental_column"):
        capture(replace(query, incremental_column=None), tmp_path)
    with pytest.raises(SpecError, match="needs a date or timestamp"):
        capture(replace(query, incremental_column="label"), tmp_path)


def test_a_partitioned_table_is_read_and_a_view_is_refused(
    db: psycopg.Connection, schema: str, source: Source, tmp_path: Path
) -> None:
    name = f"{schema}.parted_{uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, label text) PARTITION BY RANGE (id)")
    db.execute(f"CREATE TABLE {name}_a PARTITION OF {name} FOR VALUES FROM (0) TO (10)")
    db.execute(f"CREATE TABLE {name}_b PARTITION OF {name} FOR VALUES FROM (10) TO (20)")
    db.execute(f"CREATE VIEW {name}_v AS SELECT * FROM {name}")
    text = "      - {name: label, logicalType: string, physicalType: text}\n"
    query = source(text, table=name)
    captured = capture(query, tmp_path)
    db.execute(f"INSERT INTO {name} VALUES (9, 'a'), (10, 'b')")
    capture(query, tmp_path, captured)
    assert labels(captured) == [("u", 9, "a"), ("u", 10, "b")]
    with pytest.raises(SpecError, match="a view has no xmin"):
        capture(source(text, table=f"{name}_v"), tmp_path)


def test_parts_are_counted_and_the_position_moves_with_the_last(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} SELECT i, repeat(md5(i::text), 150) FROM generate_series(1, 5000) i")  # 24 MB
    query = source(part_bytes=1 << 20)
    captured = capture(query, tmp_path)
    assert len(captured.pieces) > 1
    assert [piece.cursor for piece in captured.pieces[:-1]] == [{}] * (len(captured.pieces) - 1)
    assert captured.ledger.written == 5000
    assert unpack_ids(captured.cursor["seen"], captured.cursor["horizon"]).tolist() == []


def test_a_position_of_another_method_or_table_is_refused(source: Source, tmp_path: Path) -> None:
    captured = capture(source(), tmp_path)
    with pytest.raises(SpecError, match="`dataset` of its own"):
        list(source(table="other.table").pieces(captured.cursor, None, tmp_path))  # type: ignore[arg-type]
