"""Which rows a window holds, and that it is one snapshot of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import psycopg
import pytest

from tallyclerk.core.extract import Extract
from tallyclerk.core.window import Window
from tallyclerk.exceptions import LedgerError, RecordError, SpecError
from tallyclerk.sources import database_table
from tallyclerk.sources.database_table import DatabaseTable
from tests.integration.postgres.reading import rows_of

pytestmark = pytest.mark.integration

DAY = Window.of_day("2026-03-01")


@pytest.fixture
def read(uri: str, schema: str, tmp_path: Path) -> Callable[..., Extract]:
    def extract(window: Window, **options: object) -> Extract:
        directory = tmp_path / uuid4().hex
        directory.mkdir()
        return DatabaseTable(**{"uri": uri, "table": f"{schema}.events", **options}).extract(window, directory)

    return extract


def events(db: psycopg.Connection, sql_type: str, instants: list[str | None], constraint: str = "") -> None:
    db.execute("DROP TABLE IF EXISTS events")
    db.execute(f"CREATE TABLE events (id int, at {sql_type} {constraint})")
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO events VALUES (%s, %s)", list(enumerate(instants)))


def ids(extract: Extract) -> list[int]:
    return sorted(rows_of(extract)["id"].to_pylist())


EDGES = [
    "2026-02-28 23:59:59.999999",
    "2026-03-01 00:00:00",
    "2026-03-01 00:00:00",
    "2026-03-01 23:59:59.999999",
    "2026-03-02 00:00:00",
]


@pytest.mark.parametrize(("sql_type", "suffix"), [("timestamptz", "+00"), ("timestamp", "")])
def test_a_boundary_belongs_to_the_later_window_when_values_tie(
    sql_type: str, suffix: str, db: psycopg.Connection, read: Callable[..., Extract]
) -> None:
    events(db, sql_type, [edge + suffix for edge in EDGES])
    days = [Window.of_day(day) for day in ("2026-02-28", "2026-03-01", "2026-03-02")]
    assert [ids(read(day, incremental_column="at")) for day in days] == [[0], [1, 2, 3], [4]]


def test_a_date_column_takes_whole_days_only(db: psycopg.Connection, read: Callable[..., Extract]) -> None:
    events(db, "date", ["2026-02-28", "2026-03-01", "2026-03-02"])
    assert ids(read(DAY, incremental_column="at")) == [1]
    with pytest.raises(SpecError, match="cuts a day"):
        read(Window(DAY.start, DAY.start + timedelta(hours=1)), incremental_column="at")


@pytest.mark.parametrize("sql_type", ["bigint", "text", "numeric(12,2)"])
def test_a_column_without_time_is_refused(sql_type: str, db: psycopg.Connection, read: Callable[..., Extract]) -> None:
    events(db, sql_type, ["1"])
    with pytest.raises(SpecError, match="no place on a window's time line"):
        read(DAY, incremental_column="at")


def test_half_hours_meet_each_row_once_when_clocks_change(db: psycopg.Connection, read: Callable[..., Extract]) -> None:
    """Two o'clock to three comes twice in Berlin on 2025-10-26, and not at all on 2026-03-29."""
    for begin in (datetime(2025, 10, 25, 20, tzinfo=UTC), datetime(2026, 3, 28, 20, tzinfo=UTC)):
        local = begin.replace(tzinfo=None)
        events(db, "timestamp", [(local + timedelta(minutes=7 * step)).isoformat() for step in range(80)])
        found: list[int] = []
        for step in range(-8, 28):
            start = begin + timedelta(minutes=30 * step)
            window = Window(start, start + timedelta(minutes=30))
            found += ids(read(window, incremental_column="at", time_zone="Europe/Berlin"))
        assert sorted(found) == list(range(80))


def test_the_logins_time_zone_changes_nothing(
    db: psycopg.Connection, uri: str, schema: str, read: Callable[..., Extract]
) -> None:
    for sql_type, suffix in (("timestamptz", "+00"), ("timestamp", "")):
        events(db, sql_type, [edge + suffix for edge in EDGES])
        zoned = f"{uri} options='-c timezone=America/New_York -c datestyle=German -c search_path={schema}'"
        extract = read(DAY, uri=zoned, incremental_column="at")
        assert ids(extract) == [1, 2, 3]
        assert rows_of(extract) == rows_of(read(DAY, incremental_column="at"))


def test_rows_without_a_position_are_not_lost_in_silence(db: psycopg.Connection, read: Callable[..., Extract]) -> None:
    events(db, "timestamptz", ["2026-03-01 12:00+00", None, "infinity"])
    with pytest.raises(RecordError, match=r"2 rows .* no place in any window"):
        read(DAY, incremental_column="at")
    assert ids(read(DAY, incremental_column="at", rows_without_position="ignore")) == [0]


def test_the_cursor_and_the_source_are_told_without_a_secret(
    db: psycopg.Connection, uri: str, schema: str, read: Callable[..., Extract]
) -> None:
    events(db, "timestamptz", ["2026-03-01 12:00+00"])
    extract = read(DAY, incremental_column="at")
    assert extract.cursor == {"column": "at", "from": "2026-03-01T00:00:00+00:00", "to": "2026-03-02T00:00:00+00:00"}
    (facts,) = extract.sources
    assert facts["uri"].startswith("postgresql://127.0.0.1:")
    assert facts["uri"].endswith(f"/retail/{schema}/events")
    assert (facts["records"], facts["mode"]) == (1, "incremental")
    password = psycopg.conninfo.conninfo_to_dict(uri)["password"]
    assert str(password) not in repr((extract, DatabaseTable(uri=uri, table="a.b")))


def test_no_rows_give_no_file_and_an_empty_ledger(db: psycopg.Connection, read: Callable[..., Extract]) -> None:
    events(db, "timestamptz", [])
    extract = read(DAY, incremental_column="at")
    assert extract.files == ()
    assert extract.rejects is None
    assert extract.ledger.read == extract.ledger.written == 0
    assert extract.schema.names == ["id", "at"]


def test_a_query_and_columns_are_read_in_the_order_asked(
    db: psycopg.Connection, schema: str, read: Callable[..., Extract]
) -> None:
    events(db, "timestamptz", ["2026-03-01 12:00+00", "2026-03-05 12:00+00"])
    query = f'SELECT at AS "When; it", id, id * 2 AS twice FROM {schema}.events ORDER BY id -- the end'
    extract = read(DAY, table=None, query=query, columns=["twice", "id"], incremental_column="When; it")
    assert rows_of(extract).to_pydict() == {"twice": [0], "id": [0]}


def test_rows_committed_while_reading_do_not_show(
    db: psycopg.Connection, uri: str, schema: str, read: Callable[..., Extract]
) -> None:
    """A writer moves one unit between two accounts, for ever: every snapshot's sum is the same."""
    db.execute("DROP TABLE IF EXISTS events")
    db.execute(
        "CREATE TABLE events AS SELECT i AS id, 10::bigint AS units, repeat('x', 200) AS pad FROM generate_series(1, 60000) i"
    )
    db.execute("CREATE INDEX ON events (id)")
    stop, moves = Event(), [0]

    def move() -> None:
        with psycopg.connect(uri, autocommit=True, options=f"-c search_path={schema}") as connection:
            while not stop.is_set():
                with connection.transaction():
                    source, target = 1 + moves[0] * 7919 % 60000, 1 + moves[0] * 104729 % 60000
                    connection.execute("UPDATE events SET units = units - 1 WHERE id = %s", [source])
                    connection.execute("UPDATE events SET units = units + 1 WHERE id = %s", [target])
                    connection.execute("INSERT INTO events VALUES (%s, 0, '')", [100_000 + moves[0]])
                moves[0] += 1

    writer = Thread(target=move)
    writer.start()
    try:
        for _ in range(3):
            before = moves[0]
            extract = read(DAY, mode="full", max_memory_bytes=8 << 20)
            assert moves[0] > before
            table = rows_of(extract)
            assert sum(table["units"].to_pylist()) == 600_000
            assert len(set(table["id"].to_pylist())) == table.num_rows == extract.ledger.read
    finally:
        stop.set()
        writer.join()


def test_a_table_cannot_be_dropped_while_it_is_read(
    db: psycopg.Connection, schema: str, read: Callable[..., Extract], monkeypatch: pytest.MonkeyPatch
) -> None:
    events(db, "timestamptz", ["2026-03-01 12:00+00"])
    tried: list[str] = []
    decode = database_table.decode_batch

    def drop_first(*arguments: object) -> object:
        db.execute("SET lock_timeout = '200ms'")
        try:
            db.execute("DROP TABLE events")
        except psycopg.errors.LockNotAvailable as error:
            tried.append(error.sqlstate)
        return decode(*arguments)

    monkeypatch.setattr(database_table, "decode_batch", drop_first)
    assert ids(read(DAY, incremental_column="at")) == [0]
    assert tried == ["55P03"]


def test_a_reader_that_drops_rows_is_caught(
    db: psycopg.Connection, read: Callable[..., Extract], monkeypatch: pytest.MonkeyPatch
) -> None:
    events(db, "timestamptz", ["2026-03-01 12:00+00"] * 10)
    batches = database_table.Snapshot.batches
    monkeypatch.setattr(
        database_table.Snapshot,
        "batches",
        lambda *arguments, **options: (batch.slice(1) for batch in batches(*arguments, **options)),
    )
    with pytest.raises(LedgerError, match="counted by the server=10, read=9"):
        read(DAY, incremental_column="at")


def test_files_roll_over_and_add_up(db: psycopg.Connection, read: Callable[..., Extract]) -> None:
    db.execute("DROP TABLE IF EXISTS events")
    db.execute("CREATE TABLE events AS SELECT i AS id, md5(i::text) AS label FROM generate_series(1, 50000) i")
    extract = read(DAY, mode="full", max_memory_bytes=2 << 20, target_file_rows=10_000)
    assert len(extract.files) > 2
    assert sum(file.rows for file in extract.files) == extract.ledger.written == 50_000
    assert ids(extract) == list(range(1, 50_001))
