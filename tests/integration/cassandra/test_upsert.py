"""CassandraUpsert against a real Cassandra and real Delta tables on HDFS."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from cassandra.cluster import Session
from deltalake import DeltaTable

from tallyclerk.exceptions import (
    NoInputError,
    ReconcileError,
    RecordError,
    SchemaMismatchError,
    SpecError,
    TallyclerkError,
    TerminalError,
    TransientError,
    VersionLostError,
)
from tallyclerk.sinks.cassandra_lake import LakeWindow
from tallyclerk.sinks.cassandra_loads import LoadsTable, write_timestamp
from tallyclerk.sinks.cassandra_table import TargetColumn, TargetTable
from tallyclerk.sinks.cassandra_upsert import CassandraUpsert, UpsertOptions
from tests.integration.cassandra.upsert_case import (
    DAY,
    SALES,
    WINDOW,
    Case,
    connect,
    expected_sales,
    new_target,
    sales,
)

pytestmark = pytest.mark.integration
PORT = int(os.environ.get("TALLYCLERK_CASSANDRA_PORT", "9042"))
LAKE = f"hdfs://127.0.0.1:{os.environ.get('TALLYCLERK_HDFS_PORT', '8020')}/tmp/tests/cassandra-upsert"


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect(PORT) as cluster:
        yield cluster.connect()


@pytest.fixture(scope="module")
def keyspace(session: Session) -> Iterator[str]:
    name = f"upsert_{uuid.uuid4().hex[:12]}"
    yield name
    session.execute(f"DROP KEYSPACE IF EXISTS {name}")


@pytest.fixture
def case(session: Session, keyspace: str) -> Case:
    made = Case(session, f"{LAKE}/{uuid.uuid4().hex}", new_target(keyspace))
    made.sink().create()
    made.sink().check_schema()
    return made


@pytest.mark.parametrize("grouping", ["replica_set", "partition", "none"])
def test_the_rows_are_the_lakes_when_loaded(case: Case, grouping: str) -> None:
    rows = sales(777)
    case.write_lake(rows)
    receipt = case.load(batch_grouping=grouping)
    assert case.rows() == expected_sales(rows)
    assert receipt.ledger.read == receipt.ledger.written == receipt.details["verified_keys"] == 777
    assert case.write_times() == {write_timestamp(WINDOW, receipt.version)}


def test_every_value_is_exact_when_data_is_hostile(case: Case, session: Session) -> None:
    types = {
        "id": (pa.string(), "uuid", [str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1)).upper(), str(uuid.uuid4())]),
        "wide": (pa.decimal128(38, 10), "decimal", [Decimal("-9999999999999999999999999999.9999999999"), None, Decimal("1E-10")]),
        "scaled": (pa.decimal128(9, 4), "decimal", [Decimal("1.1000"), Decimal("-0.0001"), Decimal("0.0000")]),
        "edge": (pa.decimal128(18, 0), "decimal", [Decimal(-128), Decimal(128), Decimal(-(10**18) + 1)]),
        "text": (pa.string(), "text", ["", "Zażółć \U0001f9fe\u0000 ' \" ; \n", None]),
        "far": (pa.timestamp("us", "UTC"), "timestamp", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999000, UTC), datetime(1969, 12, 31, 23, 59, 59, 999000, UTC)]),
        "on": (pa.date32(), "date", [date(1, 1, 1), date(9999, 12, 31), None]),
        "big": (pa.int64(), "bigint", [-(2**63), 2**63 - 1, None]),
        "small": (pa.int16(), "smallint", [-(2**15), 2**15 - 1, 0]),
        "huge": (pa.int64(), "varint", [-(2**63), 255, -256]),
        "real": (pa.float64(), "double", [1e-308, -0.5, float("inf")]),
        "yes": (pa.bool_(), "boolean", [True, False, None]),
        "raw": (pa.binary(), "blob", [b"", b"\x00\xff", None]),
        "words": (pa.int64(), "text", [-7, 2**40, None]),
    }  # fmt: skip
    table = pa.table({name: pa.array(values, kind) for name, (kind, _, values) in types.items()})
    target = TargetTable(
        case.target.keyspace, f"types_{uuid.uuid4().hex[:8]}",
        tuple(TargetColumn(name, name, cql) for name, (_, cql, _) in types.items()), ("id",),
    )  # fmt: skip
    hostile = Case(session, case.uri, target)
    hostile.write_lake(table)
    hostile.sink().create()
    hostile.load()
    # the driver reads a timestamp through a float of seconds, and is microseconds off in the year 9999
    names = ", ".join('toUnixTimestamp("far")' if name == "far" else f'"{name}"' for name in types)
    found = {row[0]: row for row in session.execute(f"SELECT {names} FROM {target.cql_name}")}
    for expected in table.to_pylist():
        row = dict(zip(types, found[uuid.UUID(expected["id"])], strict=True))
        assert [str(row[name]) for name in ("wide", "scaled", "edge")] == [
            str(expected[name]) for name in ("wide", "scaled", "edge")
        ]
        assert row["text"] == expected["text"]
        assert row["on"] is None if expected["on"] is None else row["on"].date() == expected["on"]
        assert row["far"] == (expected["far"] - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        for name in ("big", "small", "huge", "real", "yes", "raw"):
            assert row[name] == expected[name]
        assert row["words"] == (None if expected["words"] is None else str(expected["words"]))


def test_a_null_is_no_tombstone_when_inserted(case: Case, session: Session) -> None:
    rows = sales(3, quantity=[None, 1, 2])
    key = uuid.UUID(rows["id"][0].as_py())
    session.execute(f"INSERT INTO {case.target.cql_name} (id, quantity) VALUES (%s, 5) USING TIMESTAMP 1", (key,))
    case.write_lake(rows)
    case.load()
    assert case.rows()[key][2] == 5


def test_the_rows_are_those_of_the_correction_when_rerun(case: Case) -> None:
    before = sales(400)
    case.write_lake(before)
    first = case.load()
    after = sales(400, first=100, quantity=[None if n % 5 == 0 else 9 for n in range(400)])
    case.write_lake(after)
    second = case.load()
    assert case.rows() == expected_sales(after)
    assert second.version > first.version
    assert (second.details["removed_rows"], second.repeated) == (100, False)
    assert second.details["removed_cells"] == len([n for n in range(300) if n % 5 == 0])


def test_a_row_that_comes_back_is_visible_again_when_corrected_twice(case: Case) -> None:
    for rows in (sales(50), sales(10), sales(50)):
        case.write_lake(rows)
        case.load()
        assert case.rows() == expected_sales(rows)


def test_nothing_is_written_when_the_same_rows_are_loaded_again(case: Case) -> None:
    case.write_lake(sales(20))
    first = case.load()
    case.write_lake(sales(5, first=900), DAY + timedelta(days=1))  # another day raises the version only
    second = case.load()
    assert second.repeated
    assert second.as_dict() | {"repeated": False} == first.as_dict()
    assert case.write_times() == {write_timestamp(WINDOW, first.version)}


def test_the_same_rows_are_written_higher_when_reloaded(case: Case) -> None:
    rows = sales(20)
    case.write_lake(rows)
    first, second = case.load(), case.load(reload=True)
    assert (second.version, second.repeated) == (first.version + 1, False)
    assert case.rows() == expected_sales(rows)
    assert case.write_times() == {write_timestamp(WINDOW, second.version)}


def test_windows_do_not_touch_each_other_when_one_is_corrected(case: Case) -> None:
    other = DAY + timedelta(days=1)
    case.write_lake(sales(30))
    case.write_lake(sales(30, first=30), other)
    case.load()
    case.load(day=other)
    case.write_lake(sales(10))
    case.load()
    assert case.rows() == expected_sales(sales(10)) | expected_sales(sales(30, first=30))


def test_an_older_version_is_refused_when_it_comes_late(case: Case) -> None:
    old = case.write_lake(sales(40))
    case.write_lake(sales(30))
    case.load()
    with pytest.raises(TerminalError, match="comes too late"):
        case.load(version=old)
    assert case.rows() == expected_sales(sales(30))
    case.load(version=old, reload=True)  # on purpose
    assert case.rows() == expected_sales(sales(40))


def claim(case: Case, version: int) -> int:
    """Begin a load of ``version`` and leave it there, as a killed attempt does."""
    loads = LoadsTable(
        case.session, keyspace=case.target.keyspace, dataset="sales", target=case.target.table,
        backoff=UpsertOptions().backoff, address="test",
    )  # fmt: skip
    return loads.begin(WINDOW, LakeWindow(case.uri, DAY, version=version).identity(case.target), reload=False)[0]


def test_rows_of_a_dead_attempt_vanish_when_a_newer_version_is_loaded(case: Case, session: Session) -> None:
    case.write_lake(sales(20))
    case.load()
    dead = case.write_lake(sales(20, first=50))
    generation = claim(case, dead)
    prepared = session.prepare(case.target.insert_cql)
    for row in sales(8, first=50).to_pylist():  # as many as it wrote before it died
        values = (uuid.UUID(row["id"]), str(row["household"]), row["amount"], row["quantity"], row["note"])
        session.execute(prepared, (*values, write_timestamp(WINDOW, generation)))
    case.write_lake(sales(15, first=10))
    case.load()
    assert case.rows() == expected_sales(sales(15, first=10))


def test_a_lower_generation_steps_back_when_a_higher_one_was_begun(case: Case) -> None:
    old = case.write_lake(sales(20))
    claim(case, case.write_lake(sales(10)))
    with pytest.raises(TerminalError, match="comes too late"):
        case.load(version=old)
    assert case.rows() == {}


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls in threads that start together; the errors of ours are results."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index: int) -> None:
        barrier.wait()
        try:
            results[index] = calls[index]()
        except TallyclerkError as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_one_answer_when_one_version_is_loaded_twice_at_once(case: Case) -> None:
    case.write_lake(sales(60))
    case.load()
    rows = sales(500, first=20)
    case.write_lake(rows)
    with connect(PORT) as cluster:
        other = cluster.connect()
        receipts = at_once(case.load, lambda: case.load(session=other))
    assert [str(receipt.ledger) for receipt in receipts] == [str(receipts[0].ledger)] * 2
    assert case.rows() == expected_sales(rows)


def test_the_newer_version_wins_when_two_are_loaded_at_once(case: Case) -> None:
    for attempt in range(4):
        old = case.write_lake(sales(300, first=1000 * attempt))
        new = case.write_lake(sales(300, first=1000 * attempt + 150))
        with connect(PORT) as cluster:
            other = cluster.connect()
            older, newer = at_once(
                lambda old=old: case.load(version=old),
                lambda new=new, other=other: case.load(version=new, session=other),
            )
        assert not isinstance(older, Exception) or isinstance(older, TransientError | TerminalError)
        if isinstance(newer, TransientError):  # the older one claimed the same number first; the task's retry
            newer = case.load(version=new)
        assert newer.ledger.written == 300
        assert case.rows() == expected_sales(sales(300, first=1000 * attempt + 150))


def test_equal_rows_are_counted_once_when_the_source_has_them_twice(case: Case) -> None:
    rows = pa.concat_tables([sales(30), sales(5)])
    case.write_lake(rows)
    receipt = case.load()
    assert (receipt.ledger.read, receipt.ledger.written, receipt.ledger.deduplicated) == (35, 30, 5)
    assert case.rows() == expected_sales(sales(30))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (pa.concat_tables([sales(3), sales(1, quantity=[99])]), "keys with more than one row"),
        (pa.concat_tables([sales(3), sales(1, id=[sales(1)["id"][0].as_py().upper()], quantity=[99])]), "keys with more"),
        (sales(3, id=[None, *sales(2)["id"].to_pylist()]), "null in the key"),
    ],
    ids=["contradiction", "contradiction in another case", "null key"],
)  # fmt: skip
def test_nothing_is_written_when_keys_are_wrong(case: Case, rows: pa.Table, sentence: str) -> None:
    case.write_lake(rows)
    with pytest.raises(RecordError, match=sentence):
        case.load()
    assert case.rows() == {}


def test_nothing_is_written_when_one_value_does_not_fit(case: Case) -> None:
    case.write_lake(sales(40, id=[*sales(39)["id"].to_pylist(), "x"]))
    with pytest.raises(RecordError, match="'x' is not a UUID"):
        case.load()
    assert case.rows() == {}
    case.write_lake(sales(3))
    case.load()
    assert case.rows() == expected_sales(sales(3))


def test_a_float_is_refused_when_the_column_is_decimal(case: Case) -> None:
    rows = sales(3)
    case.write_lake(rows.set_column(2, "amount", rows["amount"].cast(pa.float64())))
    with pytest.raises(SpecError, match=r"amount: double of the lake's 'amount' does not fit decimal"):
        case.load()


def test_an_empty_window_is_refused_unless_allowed_when_there_are_no_rows(case: Case) -> None:
    case.write_lake(sales(4))
    case.load()
    case.write_lake(SALES.empty_table())
    with pytest.raises(NoInputError):
        case.load()
    assert len(case.rows()) == 4
    assert case.load(allow_empty=True).details["removed_rows"] == 4
    assert case.rows() == {}


def test_a_vacuumed_version_is_replaced_by_a_scan_when_asked(case: Case) -> None:
    case.write_lake(sales(40), DAY + timedelta(days=1))
    case.load(day=DAY + timedelta(days=1))
    case.write_lake(sales(40, first=100))
    case.load()
    after = sales(40, first=120, quantity=[None] * 40)
    case.write_lake(after)
    DeltaTable(case.uri).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(VersionLostError, match="table_scan"):
        case.load()
    receipt = case.load(retraction="table_scan")
    assert case.rows() == expected_sales(after) | expected_sales(sales(40))
    assert (receipt.details["removed_rows"], receipt.details["removed_cells"]) == (20, 20)


def test_the_load_is_not_signed_when_another_writer_outranks_it(case: Case, session: Session) -> None:
    rows = sales(300)
    session.execute(f"DELETE FROM {case.target.cql_name} WHERE id = %s", (uuid.UUID(rows["id"][7].as_py()),))
    case.write_lake(rows)
    with pytest.raises(ReconcileError, match="299 of 300"):
        case.load()
    assert (
        not session.execute(
            f"SELECT finished_at FROM {case.target.keyspace}.tallyclerk_loads WHERE dataset = 'sales' AND target = %s "
            'AND "window" = %s',
            (case.target.table, WINDOW.key),
        )
        .one()
        .finished_at
    )


def test_a_sample_is_read_back_when_rows_exceed_the_limit(case: Case) -> None:
    case.write_lake(sales(1000))
    details = case.load(verify_limit_rows=100).details
    assert details["verification"] == "sample"
    assert details["verified_keys"] == 100


@pytest.mark.parametrize("grouping", ["replica_set", "partition"])
def test_clustered_rows_share_batches_when_they_are_adjacent(case: Case, session: Session, grouping: str) -> None:
    columns = (*case.target.columns[1:], case.target.columns[0])
    target = TargetTable(
        case.target.keyspace, f"clustered_{uuid.uuid4().hex[:8]}", columns, ("household",), ("amount", "id"), {"amount": "DESC"}
    )  # fmt: skip
    clustered = Case(session, case.uri, target)
    rows = sales(500).sort_by("household")
    clustered.write_lake(rows)
    clustered.sink().create()
    clustered.load(batch_grouping=grouping)
    assert clustered.rows() == expected_sales(rows)


def test_a_table_of_another_shape_is_refused_when_checked(case: Case, session: Session) -> None:
    wrong = [TargetColumn("amount", "amount", "double") if c.name == "amount" else c for c in case.target.columns]
    target = TargetTable(case.target.keyspace, case.target.table, (*wrong, TargetColumn("x", "x", "int")), ("id",))
    with pytest.raises(SchemaMismatchError, match="amount is decimal, not double; column x is missing"):
        CassandraUpsert(session, target, dataset="sales").check_schema()


def test_each_session_finds_its_table_when_several_make_one_keyspace_at_once(case: Case) -> None:
    keyspace = f"upsert_race_{uuid.uuid4().hex[:12]}"
    with ExitStack() as open_clusters, ThreadPoolExecutor(4) as pool:
        sessions = [open_clusters.enter_context(connect(PORT)).connect() for _ in range(4)]
        sinks = [replace(case, target=new_target(keyspace)).sink(session) for session in sessions]

        def make(sink: CassandraUpsert) -> None:
            sink.create()
            sink.check_schema()

        try:
            list(pool.map(make, sinks))
        finally:
            case.session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}")
