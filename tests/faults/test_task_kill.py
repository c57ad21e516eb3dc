"""kill -9 of a task between its first byte read and its receipt: nothing partial is seen, and the retry is exact."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from deltalake import DeltaTable
from hdfs_native import Client

from stack.settings import LOOPBACK, ROOT, Settings, load_settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.sinks.lake_table import receipts_of
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tallyclerk.transfers.database_to_hdfs import DatabaseToHdfsOperator
from tallyclerk.transfers.lake_to_cassandra import LakeToCassandraOperator
from tests.faults import dying_task
from tests.faults.dying_task import AFTER_COMMIT, BEFORE_COMMIT, MID_EXTRACT, MID_LOAD, SOME_STAGED
from tests.integration.cassandra.test_upsert_operator import CONTRACT as CASSANDRA_CONTRACT
from tests.integration.cassandra.upsert_case import DAY as CASSANDRA_DAY
from tests.integration.cassandra.upsert_case import Case, connect, expected_sales, new_target, sales
from tests.running import RunTask

pytestmark = [pytest.mark.faults, pytest.mark.integration]
DAY = "2026-03-01"
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.0.0
status: active
servers:
  - {server: landing, type: custom, format: csv, path: "sales_{date}_*.csv", delimiter: ","}
schema:
  - name: sales
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true}
      - {name: note, logicalType: string, physicalType: text}
"""
ROWS_A_FILE, FILES, BAD_EVERY = 20_000, 3, 10_000
FORMER = {(number, Decimal(number) / 4) for number in range(1000)}
Row = tuple[int, Decimal]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture
def lake(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """URI of a folder of the test's own on HDFS; the connections lead there, and to a landing folder and a database."""
    (tmp_path / "landing").mkdir()
    (tmp_path / "sales.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    for name, facts in {
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "fs_landing": {"conn_type": "fs", "extra": {"path": str(tmp_path / "landing")}},
        "cassandra_default": {"conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA")},
        "shop_db": {
            "conn_type": "postgres", "host": LOOPBACK, "port": settings.port("POSTGRES"), "schema": "retail",
            "login": "retail", "password": settings.secret("RETAIL_DB_PASSWORD"),
        },
    }.items():  # fmt: skip
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(facts))
    address = f"hdfs://{LOOPBACK}:{settings.port('HDFS')}"
    folder = f"/tmp/tests/task-kill/{uuid.uuid4().hex}"
    yield f"{address}{folder}"
    Client(address).delete(folder, recursive=True)


def kill_at(stop: str, operator: type, arguments: dict[str, Any], *, day: str = DAY) -> None:
    """Runs the task in a process of its own until it dies there."""
    asked = {
        "operator": f"{operator.__module__}.{operator.__name__}", "arguments": arguments, "date": day, "stop": stop
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, dying_task.__file__, json.dumps(asked)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == -signal.SIGKILL, f"it did not get there:\n{done.stdout}\n{done.stderr}"


def rows_of(uri: str) -> frozenset[Row]:
    """What a reader sees now; a row that is there twice fails the test."""
    table = DeltaTable(uri).to_pyarrow_table(columns=["id", "amount"])
    found = frozenset(zip(table["id"].to_pylist(), table["amount"].to_pylist(), strict=True))
    assert len(found) == table.num_rows
    return found


@contextmanager
def reader(uri: str) -> Iterator[list[frozenset[Row]]]:
    """Reads the table again and again in the background; yields what it has seen, one entry for each change."""
    seen: list[frozenset[Row]] = []
    over = threading.Event()

    def read() -> None:
        version = -1
        while not over.wait(0.1):
            if (now := DeltaTable(uri).version()) != version:
                version = now
                seen.append(rows_of(uri))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def deliver(landing: Path) -> tuple[set[Row], set[tuple[str, int, str]]]:
    """Three files with a bad amount in every 10,000th line; returns the good rows, and (file, record, text) of the bad."""
    good: set[Row] = set()
    bad: set[tuple[str, int, str]] = set()
    for number in range(FILES):
        path = landing / f"sales_{DAY}_{number}.csv"
        lines = ["id,amount,note\n"]
        for record in range(1, ROWS_A_FILE + 1):
            row = number * ROWS_A_FILE + record
            if record % BAD_EVERY == 0:
                lines.append(f"{row},many,note {row}\n")
                bad.add((path.name, record, f"{row},many,note {row}"))
            else:
                lines.append(f"{row},{Decimal(row) / 100:.2f},note {row}\n")
                good.add((row, Decimal(row) / 100))
        path.write_text("".join(lines), encoding="utf-8")
    return good, bad


def deliver_former(landing: Path) -> None:
    lines = [f"{number},{amount:.2f},former\n" for number, amount in sorted(FORMER)]
    (landing / f"sales_{DAY}_0.csv").write_text("id,amount,note\n" + "".join(lines), encoding="utf-8")


@pytest.mark.parametrize("stop", [MID_EXTRACT, SOME_STAGED, BEFORE_COMMIT, AFTER_COMMIT])
def test_a_csv_load_is_exact_after_the_retry_when_its_task_is_killed(
    lake: str, tmp_path: Path, run_task: RunTask, stop: str
) -> None:
    arguments = {
        "contract": str(tmp_path / "sales.odcs.yaml"), "target": f"{lake}/sales", "quarantine": f"{lake}/quarantine"
    }  # fmt: skip
    deliver_former(tmp_path / "landing")
    run_task(CsvToHdfsOperator(task_id="load", **arguments), conf={"date": DAY})
    good, bad = deliver(tmp_path / "landing")
    with reader(f"{lake}/sales") as seen:
        kill_at(stop, CsvToHdfsOperator, arguments)
        assert rows_of(f"{lake}/sales") == (good if stop == AFTER_COMMIT else FORMER)
        retried = run_task(CsvToHdfsOperator(task_id="load", **arguments), conf={"date": DAY}).value
    assert seen in ([FORMER, good], [good], [FORMER])  # by when the reader came by: the one or the other, whole
    assert rows_of(f"{lake}/sales") == good
    ledger = Ledger(read=ROWS_A_FILE * FILES, written=len(good), rejected=len(bad))
    assert (Ledger.from_dict(retried["ledger"]), retried["repeated"]) == (ledger, stop == AFTER_COMMIT)
    # one receipt for each answer that the window has had, however many attempts it took
    assert [receipt.ledger for receipt in receipts_of(f"{lake}/sales")] == [ledger, Ledger(read=1000, written=1000)]
    kept = DeltaTable(f"{lake}/quarantine").to_pyarrow_table().to_pylist()
    assert {(Path(row["source"]).name, row["record_number"], row["raw_text"]) for row in kept} == bad
    assert [(row["column"], row["reason"]) for row in kept] == [("amount", "type")] * len(bad)


def test_a_database_load_is_exact_after_the_retry_when_its_task_is_killed(
    lake: str, tmp_path: Path, run_task: RunTask, settings: Settings
) -> None:
    schema = f"test_{uuid.uuid4().hex[:12]}"
    arguments = {
        "contract": str(tmp_path / "sales.odcs.yaml"), "target": f"{lake}/sales", "database_conn_id": "shop_db",
        "table": f"{schema}.sales", "mode": "full",
    }  # fmt: skip
    facts = {"host": LOOPBACK, "port": settings.port("POSTGRES"), "dbname": "retail", "user": "retail"}
    with psycopg.connect(**facts, password=settings.secret("RETAIL_DB_PASSWORD"), autocommit=True) as database:
        database.execute(f"CREATE SCHEMA {schema}")
        try:
            database.execute(f"CREATE TABLE {schema}.sales (id bigint, amount numeric(12,2) NOT NULL, note text)")
            database.execute(
                f"INSERT INTO {schema}.sales SELECT number, number / 4.0, 'x' FROM generate_series(0, 999) number"
            )
            run_task(DatabaseToHdfsOperator(task_id="load", **arguments), conf={"date": DAY})
            database.execute(f"UPDATE {schema}.sales SET amount = amount + 1")
            database.execute(f"INSERT INTO {schema}.sales SELECT id + 1000, amount, note FROM {schema}.sales")
            new = set(database.execute(f"SELECT id, amount FROM {schema}.sales").fetchall())
            with reader(f"{lake}/sales") as seen:
                kill_at(BEFORE_COMMIT, DatabaseToHdfsOperator, arguments)
                assert rows_of(f"{lake}/sales") == FORMER
                retried = run_task(DatabaseToHdfsOperator(task_id="load", **arguments), conf={"date": DAY}).value
        finally:
            database.execute("SET client_min_messages = warning")
            database.execute(f"DROP SCHEMA {schema} CASCADE")
    assert seen in ([FORMER, new], [FORMER])
    assert rows_of(f"{lake}/sales") == new
    assert Ledger.from_dict(retried["ledger"]) == Ledger(read=2000, written=2000)
    assert [receipt.ledger.written for receipt in receipts_of(f"{lake}/sales")] == [2000, 1000]


def test_a_cassandra_load_is_exact_after_the_retry_when_its_task_is_killed(
    lake: str, tmp_path: Path, run_task: RunTask, settings: Settings
) -> None:
    rows = sales(6_000)
    with connect(settings.port("CASSANDRA")) as cluster:
        case = Case(cluster.connect(), f"{lake}/sales", new_target(f"kill_{uuid.uuid4().hex[:12]}"))
        contract = tmp_path / "served.odcs.yaml"
        contract.write_text(CASSANDRA_CONTRACT.format(keyspace=case.target.keyspace, table=case.target.table))
        arguments = {"source": case.uri, "contract": str(contract)}
        case.write_lake(rows)
        try:
            kill_at(MID_LOAD, LakeToCassandraOperator, {**arguments, "in_flight": 4}, day=CASSANDRA_DAY.isoformat())
            arrived = case.rows()
            # single rows become visible as they arrive, so that a reader who needs all of them looks for the signature
            assert 0 < len(arrived) < 6_000
            assert arrived.items() <= expected_sales(rows).items()
            assert signatures(case) == [False]
            task = LakeToCassandraOperator(task_id="load", **arguments)
            (receipt,) = run_task(task, conf={"date": CASSANDRA_DAY.isoformat()}).value
            assert (receipt["ledger"]["written"], receipt["repeated"]) == (6_000, False)
            assert case.rows() == expected_sales(rows)
            assert signatures(case) == [True]  # the same rows from the same files: the same generation, taken up again
        finally:
            case.session.execute(f"DROP KEYSPACE IF EXISTS {case.target.keyspace}")


def signatures(case: Case) -> list[bool]:
    """Of each attempt, whether it is signed."""
    found = case.session.execute(f"SELECT finished_at FROM {case.target.keyspace}.tallyclerk_loads")
    return [row.finished_at is not None for row in found]
