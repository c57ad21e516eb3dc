"""Log capture before a real PostgreSQL: every committed change, once, exact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tallyclerk.exceptions import (
    RecordError,
    SchemaMismatchError,
    SlotBudgetError,
    SlotLostError,
    SpecError,
    TerminalError,
)
from tallyclerk.sources.database_log import LogChanges
from tests.integration.postgres.capturing import COLUMNS, MINUTE, TABLE, Captured, capture, item_contract

pytestmark = pytest.mark.integration

Source = Callable[..., LogChanges]


@pytest.fixture
def table(db: psycopg.Connection, schema: str) -> str:
    """A table of items that logs full rows."""
    name = f"items_{uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {name} {TABLE}")
    db.execute(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
    return f"{schema}.{name}"


@pytest.fixture
def source(uri: str, table: str, tmp_path: Path) -> Iterator[Source]:
    """Make a source of the table; its slot and publication go at the end."""
    made: list[LogChanges] = []

    def make(columns: str = COLUMNS, **options: Any) -> LogChanges:
        name = f"test_{uuid4().hex[:12]}"
        stated = {
            "uri": uri,
            "table": table,
            "contract": item_contract(tmp_path, columns),
            "slot": name,
            "publication": name,
        }
        made.append(LogChanges(**{**stated, **options}))
        return made[-1]

    yield make
    for each in made:
        each.drop_slot()


def rows_of(db: psycopg.Connection, table: str) -> dict[int, dict[str, Any]]:
    with db.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return {row["id"]: row for row in cursor.execute(f"SELECT * FROM {table}").fetchall()}


def test_the_rows_come_first_and_then_every_change_when_a_table_is_followed(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} SELECT i, 'first', i / 4.0 FROM generate_series(1, 100) i")
    follow = source()
    captured = capture(follow, tmp_path)
    assert [event["__op"] for event in captured.events] == ["r"] * 100
    db.execute(f"INSERT INTO {table} VALUES (101, 'ü', NULL, '2026-03-01 10:00:00.123456+00')")
    db.execute(f"UPDATE {table} SET label = NULL, amount = -0.01 WHERE id = 1")
    db.execute(f"UPDATE {table} SET label = 'again' WHERE id = 1")
    db.execute(f"DELETE FROM {table} WHERE id = 2")
    capture(follow, tmp_path, captured)
    changes = captured.events[100:]
    assert [(event["__op"], event["id"], event["label"], event["amount"]) for event in changes] == [
        ("c", 101, "ü", None),
        ("u", 1, None, Decimal("-0.01")),
        ("u", 1, "again", Decimal("-0.01")),
        ("d", 2, "first", Decimal("0.50")),
    ]
    assert changes[0]["changed_at"] == datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)
    lsns = [event["__lsn"] for event in captured.events]
    assert lsns == sorted(lsns)
    assert len(set(lsns)) == 5
    now = db.execute("SELECT extract(epoch FROM now())").fetchone()[0] * 1000
    assert all(now - 600_000 < event["__ts_ms"] <= now for event in changes)
    assert captured.tombstones == [2]
    assert captured.ledger.written == len(captured.events) == captured.ledger.read
    assert captured.state() == rows_of(db, table)


def test_only_what_was_committed_comes_in_the_order_of_the_commits(
    db: psycopg.Connection, uri: str, table: str, source: Source, tmp_path: Path
) -> None:
    follow = source()
    captured = capture(follow, tmp_path)
    with psycopg.connect(uri) as slow:
        slow.execute(f"INSERT INTO {table} VALUES (1, 'began first')")
        db.execute(f"INSERT INTO {table} VALUES (2, 'committed first')")
        with slow.transaction():
            slow.execute(f"INSERT INTO {table} VALUES (3, 'savepoint')")
        with slow.transaction(force_rollback=True):
            slow.execute(f"UPDATE {table} SET label = 'rolled back' WHERE id = 1")
        capture(follow, tmp_path, captured)
        assert [event["id"] for event in captured.events] == [2]
        slow.commit()
        slow.execute(f"DELETE FROM {table}")
        slow.rollback()
    capture(follow, tmp_path, captured)
    assert [(event["id"], event["label"]) for event in captured.events] == [
        (2, "committed first"),
        (1, "began first"),
        (3, "savepoint"),
    ]


@pytest.mark.parametrize("before_commit", [True, False])
def test_each_change_comes_once_when_the_task_dies_at_any_piece(
    before_commit: bool, db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} SELECT i, 'first' FROM generate_series(1, 5) i")
    follow, captured = source(piece_messages=6), Captured()
    for dies_at in range(1, 7):
        for _ in range(3):
            db.execute(f"INSERT INTO {table} SELECT max(id) + 1, 'new' FROM {table}")
            db.execute(f"UPDATE {table} SET label = label || '.' WHERE id = (SELECT min(id) + 1 FROM {table})")
            db.execute(f"DELETE FROM {table} WHERE id = (SELECT min(id) FROM {table})")
        capture(follow, tmp_path, captured, pieces=dies_at, killed_before_commit=before_commit)
    capture(follow, tmp_path, captured)
    assert captured.state() == rows_of(db, table)
    seen = [(event["id"], event["__lsn"]) for event in captured.events]
    assert len(seen) == len(set(seen))


def test_no_gap_and_no_overlap_when_rows_change_while_the_first_ones_are_read(
    db: psycopg.Connection, uri: str, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} SELECT i, 'first' FROM generate_series(1, 1000) i")
    follow, captured = source(part_rows=1), Captured()
    pieces = follow.pieces({}, MINUTE, tmp_path)
    captured.pieces.append(next(pieces))  # the slot is not made yet
    db.execute(f"UPDATE {table} SET label = 'before the slot' WHERE id <= 10")
    captured.pieces.append(next(pieces))  # the slot is made, the snapshot open
    db.execute(f"UPDATE {table} SET label = 'after it' WHERE id BETWEEN 6 AND 15")
    db.execute(f"DELETE FROM {table} WHERE id = 1000")
    captured.pieces += pieces
    counts = {op: sum(event["__op"] == op for event in captured.events) for op in "rcud"}
    assert counts == {"r": 1000, "c": 0, "u": 10, "d": 1}
    assert sum(event["label"] == "before the slot" for event in captured.events[:1000]) == 10
    assert captured.state() == rows_of(db, table)


def test_a_large_transaction_comes_in_parts_once_each_when_the_task_dies_between_them(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    follow = source(part_bytes=6 << 20)
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {table} SELECT i, repeat(md5(i::text), 150) FROM generate_series(1, 6000) i")  # 29 MB
    db.execute(f"INSERT INTO {table} VALUES (6001, 'the next')")
    capture(follow, tmp_path, captured, pieces=2)
    first = len(captured.events)
    assert 0 < first < 6000
    capture(follow, tmp_path, captured)
    assert [event["id"] for event in captured.events] == list(range(1, 6002))
    assert captured.ledger.deduplicated == first
    assert captured.state() == rows_of(db, table)


@pytest.mark.parametrize("full", [True, False])
def test_the_old_row_goes_and_a_new_one_comes_when_the_key_changes(
    full: bool, db: psycopg.Connection, schema: str, source: Source, tmp_path: Path
) -> None:
    name = f"{schema}.moved_{uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int)")
    if full:
        db.execute(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
    follow = source("      - {name: n, logicalType: integer, physicalType: int}\n", table=name)
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {name} VALUES (1, 10), (2, 20), (3, 30)")
    db.execute(f"UPDATE {name} SET id = id + 10, n = n + 1 WHERE id <> 2")
    db.execute(f"DELETE FROM {name} WHERE id = 2")
    capture(follow, tmp_path, captured)
    assert [(event["__op"], event["id"], event["n"]) for event in captured.events[3:]] == [
        ("d", 1, 10 if full else None),
        ("c", 11, 11),
        ("d", 3, 30 if full else None),
        ("c", 13, 31),
        ("d", 2, 20 if full else None),
    ]
    assert captured.tombstones == [1, 3, 2]


def test_a_large_value_is_kept_when_an_update_leaves_it_unchanged(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"ALTER TABLE {table} ALTER COLUMN label SET STORAGE EXTERNAL")
    follow = source()
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {table} SELECT i, repeat(i::text, 9000) FROM generate_series(1, 5) i")
    db.execute(f"UPDATE {table} SET amount = id")
    db.execute(f"UPDATE {table} SET id = id + 10 WHERE id < 3")  # both events share the value
    db.execute(f"UPDATE {table} SET label = NULL WHERE id = 5")
    capture(follow, tmp_path, captured)
    assert {event["__op"] for event in captured.events} == {"c", "u", "d"}
    assert all(len(event["label"]) == 9000 for event in captured.events[:-1])
    assert captured.state() == rows_of(db, table)


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ("(id bigint PRIMARY KEY, label text, amount numeric(12,2), changed_at timestamptz)", "large values of label"),
        ("(id bigint, label varchar(9), amount numeric(12,2), changed_at timestamptz)", "would not tell id"),
    ],
)
def test_a_table_is_refused_before_a_slot_is_made_when_its_log_would_not_tell_all(
    definition: str, words: str, db: psycopg.Connection, schema: str, source: Source, tmp_path: Path
) -> None:
    name = f"poor_{uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {name} {definition}")
    follow = source(table=f"{schema}.{name}")
    with pytest.raises(SpecError, match=rf"{words}.*ALTER TABLE {name} REPLICA IDENTITY FULL|{words}.*{name}"):
        capture(follow, tmp_path)
    assert not db.execute("SELECT FROM pg_replication_slots WHERE slot_name = %s", [follow.slot]).fetchall()
    assert not db.execute("SELECT FROM pg_publication WHERE pubname = %s", [follow.publication]).fetchall()


def test_nothing_is_sent_when_the_log_lacks_a_large_value_after_all(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"ALTER TABLE {table} ALTER COLUMN label SET STORAGE EXTERNAL")
    db.execute(f"INSERT INTO {table} VALUES (1, repeat('x', 9000))")
    follow = source()
    captured = capture(follow, tmp_path)
    db.execute(f"ALTER TABLE {table} REPLICA IDENTITY DEFAULT")
    db.execute(f"UPDATE {table} SET amount = 1")
    db.execute(f"ALTER TABLE {table} REPLICA IDENTITY FULL")
    with pytest.raises(TerminalError, match=r"label \(1 times\).*begin anew"):
        capture(follow, tmp_path, captured)
    assert len(captured.events) == 1


def test_only_the_key_is_told_when_a_row_without_full_identity_is_deleted(
    db: psycopg.Connection, schema: str, source: Source, tmp_path: Path
) -> None:
    name = f"{schema}.short_{uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int NOT NULL)")
    follow = source("      - {name: n, logicalType: integer, physicalType: int, required: true}\n", table=name)
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {name} VALUES (1, 7)")
    db.execute(f"DELETE FROM {name}")
    capture(follow, tmp_path, captured)
    assert [(event["__op"], event["id"], event["n"], event["__deleted"]) for event in captured.events] == [
        ("c", 1, 7, False),
        ("d", 1, None, True),
    ]
    assert captured.ledger.rejected == 0


def test_partitions_are_told_as_their_table_when_it_is_partitioned(
    db: psycopg.Connection, schema: str, source: Source, tmp_path: Path
) -> None:
    name = f"{schema}.parted_{uuid4().hex[:8]}"
    db.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, n int) PARTITION BY RANGE (id)")
    db.execute(f"CREATE TABLE {name}_a PARTITION OF {name} FOR VALUES FROM (0) TO (10)")
    db.execute(f"CREATE TABLE {name}_b (n int, id bigint NOT NULL)")
    db.execute(f"ALTER TABLE {name} ATTACH PARTITION {name}_b FOR VALUES FROM (10) TO (20)")
    follow = source("      - {name: n, logicalType: integer, physicalType: int}\n", table=name)
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {name} SELECT i, -i FROM generate_series(8, 11) i")
    db.execute(f"UPDATE {name} SET id = 15 WHERE id = 8")  # into the other partition
    capture(follow, tmp_path, captured)
    assert captured.state() == rows_of(db, name)
    assert len(captured.events) == 6


def test_the_slot_moves_on_when_only_other_tables_change(
    db: psycopg.Connection, schema: str, source: Source, tmp_path: Path
) -> None:
    follow = source()
    captured = capture(follow, tmp_path)
    db.execute(f"CREATE TABLE other_{follow.slot} AS SELECT generate_series(1, 20000) AS i")
    (before,) = db.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
    capture(follow, tmp_path, captured)
    assert captured.events == []
    (confirmed,) = db.execute(
        "SELECT confirmed_flush_lsn >= %s FROM pg_replication_slots WHERE slot_name = %s", [before, follow.slot]
    ).fetchone()
    assert confirmed


def test_a_row_is_set_aside_when_a_required_value_is_missing(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    follow = source(COLUMNS.replace("physicalType: text}", "physicalType: text, required: true}"))
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {table} VALUES (1, 'good'), (2, NULL), (3, 'good')")
    db.execute(f"DELETE FROM {table} WHERE id = 2")
    capture(follow, tmp_path, captured)
    assert [(event["__op"], event["id"]) for event in captured.events] == [("c", 1), ("c", 3), ("d", 2)]
    (rejects,) = [piece.rejects for piece in captured.pieces if piece.rejects is not None]
    assert [(row["column"], row["reason"]) for row in rejects.to_pylist()] == [("label", "required")]
    assert captured.ledger.rejected == 1


def test_special_values_follow_the_policy(db: psycopg.Connection, table: str, source: Source, tmp_path: Path) -> None:
    follow = source()
    captured = capture(follow, tmp_path)
    db.execute(
        f"INSERT INTO {table} VALUES (1, 'plain', 1, '2026-03-01'), (2, 'nan', 'NaN', '2026-03-01'), "
        "(3, 'never', 3, 'infinity'), (4, 'caesar', 4, '0044-03-15 12:00:00+00 BC'), (5, 'far', 5, '12026-01-01 00:00:00.5+00')"
    )
    with pytest.raises(RecordError, match=r"amount: 1 .*changed_at: 3 "):
        capture(follow, tmp_path, captured)
    capture(replace(follow, special_values="reject"), tmp_path, captured)
    assert [event["label"] for event in captured.events] == ["plain"]
    (rejects,) = [piece.rejects for piece in captured.pieces if piece.rejects is not None]
    assert {(row["column"], row["reason"]) for row in rejects.to_pylist()} == {
        ("amount", "special_value"),
        ("changed_at", "special_value"),
    }
    texts = [json.loads(row["raw_text"])["changed_at"] for row in rejects.to_pylist() if row["column"] == "changed_at"]
    assert texts == ["infinity", "0044-03-15 12:00:00+00 BC", "12026-01-01 00:00:00.5+00"]


def test_a_truncated_table_fails_until_that_is_allowed(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} VALUES (1)")
    follow = source()
    captured = capture(follow, tmp_path)
    db.execute(f"TRUNCATE {table}")
    db.execute(f"INSERT INTO {table} VALUES (2)")
    with pytest.raises(TerminalError, match="was truncated at"):
        capture(follow, tmp_path, captured)
    capture(replace(follow, truncate="ignore"), tmp_path, captured)
    assert [(event["__op"], event["id"]) for event in captured.events] == [("r", 1), ("c", 2)]
    assert captured.pieces[-1].facts["truncations"] == 1


def test_a_column_that_came_is_left_out_and_one_that_went_stops_the_run(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    follow = source()
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {table} VALUES (1, 'old form')")
    db.execute(f"ALTER TABLE {table} ADD COLUMN extra text DEFAULT 'x'")
    db.execute(f"INSERT INTO {table} VALUES (2, 'new form')")
    db.execute(f"ALTER TABLE {table} ALTER COLUMN amount TYPE numeric(10,1)")
    db.execute(f"INSERT INTO {table} VALUES (3, 'narrower', 0.5)")
    capture(follow, tmp_path, captured)
    assert [(event["id"], event["label"], event["amount"]) for event in captured.events] == [
        (1, "old form", None),
        (2, "new form", None),
        (3, "narrower", Decimal("0.50")),
    ]
    db.execute(f"ALTER TABLE {table} DROP COLUMN label")
    db.execute(f"INSERT INTO {table} (id) VALUES (4)")
    with pytest.raises(SpecError, match="no column label"):
        capture(replace(follow, begin_anew=True), tmp_path, captured)
    with pytest.raises(SchemaMismatchError, match="label is not there any more"):
        capture(follow, tmp_path, captured)
    db.execute(f"ALTER TABLE {table} ADD COLUMN label int")
    with pytest.raises(SchemaMismatchError, match="label is not there any more"):
        capture(follow, tmp_path, captured)


@pytest.mark.parametrize(("begin", "expected"), [("nothing", []), ("recent", [2]), ("all", [1, 2])])
def test_the_first_run_sends_what_it_is_told_to(
    begin: str, expected: list[int], db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} (id, changed_at) VALUES (1, now() - interval '2 hours'), (2, now())")
    follow = source(begin=begin, lookback_minutes=60, incremental_column="changed_at")
    captured = capture(follow, tmp_path)
    assert [event["id"] for event in captured.events] == expected
    db.execute(f"INSERT INTO {table} VALUES (3)")
    capture(follow, tmp_path, captured)
    assert [event["id"] for event in captured.events] == [*expected, 3]


def test_a_slot_that_cannot_be_followed_says_how_to_begin_anew(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} VALUES (1)")
    follow = source()
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {table} VALUES (2)")
    db.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", [follow.slot])
    with pytest.raises(SlotLostError, match="somebody else reads it"):
        capture(follow, tmp_path, captured)
    assert follow.drop_slot()
    assert not follow.drop_slot()
    with pytest.raises(SlotLostError, match=r"does not exist any more.*begin_anew"):
        capture(follow, tmp_path, captured)
    capture(replace(follow, begin_anew=True), tmp_path, captured)
    assert [(event["__op"], event["id"]) for event in captured.events] == [("r", 1), ("r", 1), ("r", 2)]


def test_a_slot_of_someone_else_is_left_alone(
    db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    follow = source()
    db.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [follow.slot])
    with pytest.raises(SpecError, match="may be someone else's"):
        capture(follow, tmp_path)


@pytest.mark.parametrize("dies_at", [1, None])
def test_every_row_is_read_again_when_the_server_is_another(
    dies_at: int | None, db: psycopg.Connection, table: str, source: Source, tmp_path: Path
) -> None:
    db.execute(f"INSERT INTO {table} VALUES (1)")
    follow = source(begin="nothing")
    captured = capture(follow, tmp_path)
    assert captured.events == []
    restored = replace(captured.pieces[-1], cursor={**captured.cursor, "system": "1", "timeline": 7})
    capture(follow, tmp_path, captured := Captured([restored]), pieces=dies_at)
    assert "timeline 7 → 1" in captured.pieces[1].facts["begun_anew"]
    capture(follow, tmp_path, captured)
    assert [event["__op"] for event in captured.events] == ["r"]


def test_the_budget_warns_and_then_fails_only_after_everything_was_sent(
    db: psycopg.Connection,
    superuser: psycopg.Connection,
    uri: str,
    table: str,
    source: Source,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:

    def note_open_transactions() -> None:
        """What lets a slot go on; the server itself does it four times a minute. The commit brings it to the disk."""
        superuser.execute("SELECT pg_log_standby_snapshot()")
        db.execute(f"DELETE FROM {table} WHERE id < 0")
        db.execute("SELECT pg_logical_emit_message(true, 'test', 'flush')")

    def go_on_as_far_as_it_can() -> None:
        """To where the open transaction began: in several runs, as each goes on to one note alone, which may be a neighbour's."""
        before, now = None, where_the_slot_begins()
        while now != before:
            note_open_transactions()
            capture(follow, tmp_path, captured)
            before, now = now, where_the_slot_begins()

    def where_the_slot_begins() -> str:
        row = db.execute("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = %s", [follow.slot]).fetchone()
        assert row is not None
        return str(row[0])

    follow = source(slot_warn_bytes=1 << 20, slot_fail_bytes=3 << 20)
    captured = capture(follow, tmp_path)
    db.execute(f"INSERT INTO {table} SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 3000) i")
    capture(follow, tmp_path, captured)  # 2 MB and more
    assert "keeps" in caplog.text
    with psycopg.connect(uri) as forgotten:
        forgotten.execute(f"INSERT INTO {table} VALUES (0, 'open')")
        go_on_as_far_as_it_can()
        db.execute(f"UPDATE {table} SET label = repeat(md5(label), 40) WHERE id > 0")
        note_open_transactions()
        with pytest.raises(SlotBudgetError, match=r"more than the 3,145,728 allowed.*pg_stat_activity"):
            capture(follow, tmp_path, captured)
        assert len(captured.events) == 6000
    note_open_transactions()
    capture(follow, tmp_path, captured)
    assert captured.state() == rows_of(db, table)
