"""The load operators as a worker runs them: connections, window, templates, receipt, XCom and asset event."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from airflow.sdk import Asset
from airflow.sdk.lineage import HookLineageCollector
from deltalake import DeltaTable, write_deltalake

from include.shop import landing
from include.shop.totals import day_totals
from include.shop.trading_days import TradingDays
from stack.settings import LOOPBACK, ROOT, Settings, load_settings
from tallyclerk.exceptions import NoInputError
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tallyclerk.transfers.database_to_hdfs import DatabaseToHdfsOperator
from tests.running import RunTask

pytestmark = pytest.mark.integration
DAY = date(2026, 3, 10)
CONTRACTS = ROOT / "include" / "contracts"
SALES = Asset(name="test_sales", uri="tallyclerk://lake/test/sales")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="module")
def shop(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A landing folder with the shop's file of the one day."""
    folder = tmp_path_factory.mktemp("landing")
    landing.export_days(TradingDays(date(2026, 3, 11)), folder, last=1)
    return folder


@pytest.fixture
def lake(settings: Settings, monkeypatch: pytest.MonkeyPatch, shop: Path) -> Iterator[str]:
    """A folder of its own on HDFS, and the connections that lead to it."""
    from hdfs_native import Client

    connect(monkeypatch, "hdfs_default", conn_type="hdfs", host=LOOPBACK, extra={"rpc_port": settings.port("HDFS")})
    connect(monkeypatch, "fs_landing", conn_type="fs", extra={"path": str(shop)})
    folder = f"/tmp/tests/load-operators/{uuid.uuid4().hex}"
    yield folder
    Client(f"hdfs://{LOOPBACK}:{settings.port('HDFS')}").delete(folder, recursive=True)


@pytest.fixture
def table(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Three customers in a schema of its own in the shop's database."""
    connect(
        monkeypatch, "shop_db", conn_type="postgres", host=LOOPBACK, port=settings.port("POSTGRES"), schema="retail",
        login="retail", password=settings.secret("RETAIL_DB_PASSWORD"),
    )  # fmt: skip
    schema = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(
        host=LOOPBACK, port=settings.port("POSTGRES"), dbname="retail", user="retail",
        password=settings.secret("RETAIL_DB_PASSWORD"), autocommit=True,
    ) as connection:  # fmt: skip
        connection.execute(f"CREATE SCHEMA {schema}")
        connection.execute(
            f"CREATE TABLE {schema}.customers (household_id bigint PRIMARY KEY, age text, income text,"
            " home_ownership text, marital_status text, household_size text, household_comp text, kids_count text,"
            " updated_at timestamptz NOT NULL)"
        )
        connection.execute(
            f"INSERT INTO {schema}.customers SELECT id, '35-44', NULL, 'Homeowner', 'Married', '2', '2 Adults', '0',"
            " '2026-03-10 12:00:00+00' FROM generate_series(1, 3) AS id"
        )
        yield f"{schema}.customers"
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def sales(lake: str, **arguments: Any) -> CsvToHdfsOperator:
    return CsvToHdfsOperator(
        task_id="sales",
        contract=str(CONTRACTS / "transactions.odcs.yaml"),
        target=f"{lake}/sales",
        quarantine=f"{lake}/quarantine",
        row_filters=["sales_value > 0"],
        outlets=[SALES],
        **arguments,
    )


def rows(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    return DeltaTable(receipt["location"]).to_pyarrow_table().to_pylist()


def test_the_receipt_is_xcom_and_asset_event_when_a_file_is_loaded(lake: str, run_task: RunTask) -> None:
    run = run_task(sales(lake), conf={"date": DAY.isoformat()})
    totals = day_totals(DAY)
    assert run.state == "success"
    assert (run.value["dataset"], run.value["window"], run.value["repeated"]) == ("transactions", "2026-03-10", False)
    assert run.value["ledger"] == {
        "read": totals.rows,
        "written": totals.positive_rows,
        "rejected": 0,
        "filtered": totals.rows - totals.positive_rows,
        "deduplicated": 0,
    }
    assert run.events == {SALES.uri: {"receipt": run.value}}
    found = rows(run.value)
    assert len(found) == totals.positive_rows
    assert sum(row["sales_value"] for row in found) == totals.positive_sales_value
    assert all(path.startswith(f"{run.value['location']}/year=2026/month=03/day=10/") for path in run.value["paths"])


def test_nothing_is_written_when_a_scheduled_run_finds_the_triggered_ones_load(lake: str, run_task: RunTask) -> None:
    first = run_task(sales(lake), conf={"date": DAY.isoformat()}).value
    second = run_task(sales(lake), logical_date=datetime(2026, 3, 10, tzinfo=UTC)).value
    assert second == {**first, "repeated": True}
    assert DeltaTable(first["location"]).version() == first["version"]


def test_the_task_raises_its_own_error_when_there_is_no_file(lake: str, run_task: RunTask) -> None:
    with pytest.raises(NoInputError, match="transactions_2026-03-09"):
        run_task(sales(lake), conf={"date": "2026-03-09"})


def test_the_target_is_templated_when_it_names_the_day(lake: str, run_task: RunTask) -> None:
    task = sales(f"{lake}/{{{{ ds }}}}")
    receipt = run_task(task, logical_date=datetime(2026, 3, 10, tzinfo=UTC)).value
    assert receipt["location"].endswith(f"{lake}/2026-03-10/sales")


def test_all_rows_are_loaded_when_a_table_is_read_in_full(lake: str, table: str, run_task: RunTask) -> None:
    task = DatabaseToHdfsOperator(
        task_id="customers",
        contract=str(CONTRACTS / "customers.odcs.yaml"),
        database_conn_id="shop_db",
        table=table,
        mode="full",
        target=f"{lake}/customers",
        quarantine=f"{lake}/quarantine",
    )
    run = run_task(task, conf={"date": DAY.isoformat()})
    assert (run.value["ledger"]["read"], run.value["ledger"]["written"]) == (3, 3)
    found = sorted(rows(run.value), key=lambda row: row["household_id"])
    assert [(row["household_id"], row["age"], row["income"]) for row in found] == [
        (number, "35-44", None) for number in (1, 2, 3)
    ]
    assert {row["updated_at"] for row in found} == {datetime(2026, 3, 10, 12, tzinfo=UTC)}
    assert "password" not in json.dumps(run.value)


def test_the_lineage_names_what_was_read_and_written_when_somebody_collects_it(
    lake: str, table: str, shop: Path, run_task: RunTask, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without a reader, such as OpenLineage's with a place to send to, Airflow's collector does nothing
    collector = HookLineageCollector()
    monkeypatch.setattr("airflow.sdk.lineage.get_hook_lineage_collector", lambda: collector)
    run_task(sales(lake), conf={"date": DAY.isoformat()})
    customers = DatabaseToHdfsOperator(
        task_id="customers", contract=str(CONTRACTS / "customers.odcs.yaml"), database_conn_id="shop_db", table=table,
        mode="full", target=f"{lake}/customers", quarantine=f"{lake}/quarantine",
    )  # fmt: skip
    run_task(customers, conf={"date": DAY.isoformat()})
    hdfs = f"hdfs://{LOOPBACK}:{settings.port('HDFS')}"
    postgres = f"postgres://{LOOPBACK}:{settings.port('POSTGRES')}"
    found = collector.collected_assets
    assert {entry.asset.uri for entry in found.inputs} == {
        (shop / "transactions_2026-03-10.csv").as_uri(),
        f"{postgres}/retail/{table.replace('.', '/')}",
    }
    assert [(entry.asset.uri, entry.asset.extra) for entry in found.outputs] == [
        (f"{hdfs}{lake}/sales", {"window": "2026-03-10"}),
        (f"{hdfs}{lake}/customers", {"window": "2026-03-10"}),
    ]


def test_openlineages_events_have_the_ledgers_and_the_tables_rows_when_its_provider_listens(
    lake: str, shop: Path, tmp_path: Path, settings: Settings
) -> None:
    hdfs = f"hdfs://{LOOPBACK}:{settings.port('HDFS')}"
    # a table of other columns, into which no sale can be committed
    write_deltalake(f"{hdfs}{lake}/others", pa.table({"other": [1]}))
    arguments = {
        "contract": str(CONTRACTS / "transactions.odcs.yaml"),
        "quarantine": f"{lake}/quarantine",
        "row_filters": ["sales_value > 0"],
    }
    targets = (f"{lake}/sales", f"{lake}/sales", f"{lake}/others")
    events = listened_to(tmp_path / "events.jsonl", [{**arguments, "target": target} for target in targets])
    assert [event["eventType"] for event in events] == ["START", "COMPLETE", "START", "COMPLETE", "START", "FAIL"]
    first, again, failed = events[1::2]
    totals, file = day_totals(DAY), shop / "transactions_2026-03-10.csv"
    ledger = {
        "read": totals.rows, "written": totals.positive_rows, "rejected": 0,
        "filtered": totals.rows - totals.positive_rows, "deduplicated": 0,
    }  # fmt: skip
    table = DeltaTable(f"{hdfs}{lake}/sales")
    assert table.to_pyarrow_table().num_rows == totals.positive_rows

    assert [(each["namespace"], each["name"]) for each in first["inputs"]] == [("file", str(file))]
    assert counts(first["inputs"][0], "input") == {
        "rowCount": totals.rows, "size": file.stat().st_size, "fileCount": 1,
    }  # fmt: skip
    assert [(each["namespace"], each["name"]) for each in first["outputs"]] == [(hdfs, f"{lake}/sales")]
    stored = pa.table(table.get_add_actions(flatten=True)).to_pydict()
    assert counts(first["outputs"][0], "output") == {
        "rowCount": totals.positive_rows, "size": sum(stored["size_bytes"]), "fileCount": len(stored["path"]),
    }  # fmt: skip
    (partition,) = first["outputs"][0]["outputFacets"]["subset"]["outputCondition"]["partitions"]
    assert partition["identifier"] == "2026-03-10"
    assert loads(first) == [("2026-03-10", ledger, True, False)]

    assert counts(again["outputs"][0], "output") == {"rowCount": 0, "size": 0, "fileCount": 0}
    assert loads(again) == [("2026-03-10", ledger, True, True)]

    assert counts(failed["inputs"][0], "input")["rowCount"] == totals.rows
    assert failed["outputs"] == []
    assert loads(failed) == [("2026-03-10", ledger, False, False)]
    assert "does not have the contract's" in failed["run"]["facets"]["errorMessage"]["message"]


def listened_to(file: Path, arguments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events of loads of the day, one after another."""
    operator = f"{CsvToHdfsOperator.__module__}.{CsvToHdfsOperator.__name__}"
    tasks = [{"operator": operator, "arguments": each, "date": DAY.isoformat()} for each in arguments]
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    subprocess.run(
        [sys.executable, "-m", "tests.listened_task", json.dumps(tasks)],
        cwd=ROOT, check=True, capture_output=True, timeout=300,
        env={
            **os.environ,
            "AIRFLOW__OPENLINEAGE__DISABLED": "False",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
        },
    )  # fmt: skip
    return [json.loads(line) for line in file.read_text().splitlines()]


def counts(dataset: dict[str, Any], direction: str) -> dict[str, int]:
    facet = dataset[f"{direction}Facets"][f"{direction}Statistics"]
    return {name: count for name, count in facet.items() if not name.startswith("_")}


def loads(event: dict[str, Any]) -> list[tuple[str, dict[str, int], bool, bool]]:
    told = event["run"]["facets"]["tallyclerk_loads"]["loads"]
    return [(load["window"], load["ledger"], load["committed"], load["repeated"]) for load in told]
