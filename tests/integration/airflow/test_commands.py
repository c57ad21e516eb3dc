"""`airflow tallyclerk …` over a load of the test's own on the real HDFS: what a person reads, and the exit codes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hdfs_native import Client

from stack.settings import LOOPBACK, load_settings
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tests.integration.airflow.conftest import Run
from tests.integration.cassandra.kpi_layers import Layers, kpi
from tests.integration.cassandra.upsert_case import connect
from tests.running import RunTask

pytestmark = pytest.mark.integration
DAY = "2026-03-10"
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: {dataset}
name: {dataset}
version: 1.0.0
status: active
servers:
  - {{server: landing, type: custom, format: csv, path: "{{date}}.csv", delimiter: ","}}
schema:
  - name: {dataset}
    properties:
      - {{name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}}
      - {{name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true}}
      - {{name: note, logicalType: string, physicalType: text}}
"""
FILE = 'id,amount,note\n1,1.50,a\n2,many,"two\nlines"\n3,0.00,c\n4,2.50,d\n1,9.00,again\n'


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_task: RunTask) -> Iterator[str]:
    """A data set that was loaded once: of five records one is rejected, one filtered, one deduplicated."""
    settings = load_settings()
    name = f"test_{uuid.uuid4().hex[:12]}"
    (tmp_path / "contracts").mkdir()
    contract = tmp_path / "contracts" / f"{name}.odcs.yaml"
    contract.write_text(CONTRACT.format(dataset=name))
    (tmp_path / f"{DAY}.csv").write_text(FILE)
    for connection, facts in {
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "fs_landing": {"conn_type": "fs", "extra": {"path": str(tmp_path)}},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", json.dumps(facts))
    task = CsvToHdfsOperator(
        task_id="load", contract=str(contract), target=f"/data/raw/{name}", row_filters=["amount > 0"],
        max_rejected_ratio=0.5,
    )  # fmt: skip
    run_task(task, conf={"date": DAY})
    yield name
    client = Client(f"hdfs://{LOOPBACK}:{settings.port('HDFS')}")
    for zone in ("raw", "quarantine"):
        client.delete(f"/data/{zone}/{name}", recursive=True)


def test_every_record_is_in_one_column_of_the_ledger_when_a_day_was_loaded(dataset: str, run: Run) -> None:
    code, shown, complaints = run("ledger", "--dataset", dataset)
    heads, line = (text.split() for text in shown.splitlines())
    found = dict(zip(heads, line, strict=True))
    assert (code, complaints) == (0, "")
    assert found.pop("version")
    assert found == {
        "window": DAY, "table": f"raw/{dataset}", "read": "5", "written": "2", "rejected": "1", "filtered": "1",
        "deduplicated": "1", "closes": "yes",
    }  # fmt: skip
    code, shown, _ = run("ledger", "--dataset", dataset, "--date", DAY, "-o", "json")
    assert [(receipt["dataset"], receipt["ledger"]["written"]) for receipt in json.loads(shown)] == [(dataset, 2)]
    assert run("ledger", "--dataset", dataset, "--date", "2026-03-11")[:2] == (0, "no load has been signed for this\n")


def test_a_record_stands_on_one_line_when_its_text_has_several(dataset: str, run: Run) -> None:
    code, shown, complaints = run("quarantine", "list", "--dataset", dataset)
    heads, line = shown.splitlines()
    assert (code, complaints) == (0, "")
    heads_expected = "window dataset source record_number column reason detail correction raw_text"
    assert heads.split() == heads_expected.split()
    assert line.split()[:6] == [DAY, dataset, line.split()[2], "2", "amount", "type"]
    assert r'2,many,"two\nlines"' in line
    _, shown, _ = run("quarantine", "list", "--dataset", dataset, "-o", "json")
    assert [row["raw_text"] for row in json.loads(shown)] == ['2,many,"two\nlines"']
    assert run("quarantine", "list", "--dataset", f"{dataset}x")[:2] == (0, "nothing is in quarantine\n")


def test_the_plan_says_what_a_load_would_do_when_the_file_is_known_changed_or_missing(
    dataset: str, run: Run, tmp_path: Path
) -> None:
    contracts = ("--contracts", str(tmp_path / "contracts"))
    code, shown, _ = run("plan", "--date", DAY, *contracts)
    assert code == 0
    assert "find it loaded already" in shown
    (tmp_path / f"{DAY}.csv").write_text(FILE + "5,5.00,e\n")
    assert "replace the window" in run("plan", "--date", DAY, *contracts)[1]
    code, shown, _ = run("plan", "--date", "2026-03-11", *contracts)
    assert code == 1
    assert "the load would fail" in shown


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch, run_task: RunTask) -> Iterator[Layers]:
    """A day that is closed, one that is not, and another layer's answers for both; the command's connection leads there."""
    settings = load_settings()
    with connect(settings.port("CASSANDRA")) as cluster:
        layers = Layers(cluster.connect(), f"hdfs://{LOOPBACK}:{settings.port('HDFS')}")
        for connection, facts in {
            "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
            "cassandra_default": {
                "conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA"), "schema": layers.keyspace,
            },
        }.items():  # fmt: skip
            monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", json.dumps(facts))
        with layers.made():
            closed, current = date(2026, 3, 10), date(2026, 3, 11)
            for day in (closed, current):
                layers.stream(day, {"7": kpi(Decimal("1.00"), 1), "8": kpi(Decimal("1234.50"), 3)})
            layers.compute(closed, {"7": kpi(Decimal("2.00"), 3), "9": kpi(Decimal("4.00"), 1)})
            run_task(layers.load(closed))
            run_task(layers.close(closed))
            yield layers


def test_each_row_says_which_layer_answers_when_kpis_are_asked_for(layers: Layers, run: Run) -> None:
    code, shown, complaints = run("kpis", "--customer", "7")
    heads, *lines = (line.split() for line in shown.splitlines())
    assert (code, complaints) == (0, "")
    assert heads == [
        "customer_id", "date", "total_amount", "transaction_count", "avg_transaction_value", "layer", "closed_at",
    ]  # fmt: skip
    assert [line[:6] for line in lines] == [
        ["7", "2026-03-11", "1.00", "1", "1.00", "speed"], ["7", "2026-03-10", "2.00", "3", "0.67", "batch"],
    ]  # fmt: skip
    code, shown, _ = run("kpis", "--customer", "7", "--date", "2026-03-10", "-o", "json")
    (row,) = json.loads(shown)
    assert (code, datetime.fromisoformat(row.pop("closed_at")).utcoffset()) == (0, timedelta())
    assert row == {
        "customer_id": "7", "date": "2026-03-10", "total_amount": "2.00", "transaction_count": 3,
        "avg_transaction_value": "0.67", "layer": "batch",
    }  # fmt: skip


def test_a_days_best_customers_are_shown_when_only_the_date_is_given(layers: Layers, run: Run) -> None:
    code, shown, _ = run("kpis", "--date", "2026-03-10")
    assert (code, [line.split()[0] for line in shown.splitlines()[1:]]) == (0, ["9", "7"])
    code, shown, _ = run("kpis", "--date", "2026-03-11", "--limit", "1")
    assert (code, [line.split()[:3] for line in shown.splitlines()[1:]]) == (0, [["8", "2026-03-11", "1234.50"]])


def test_the_command_says_what_to_run_when_neither_layer_has_kpis(layers: Layers, run: Run) -> None:
    code, shown, complaints = run("kpis", "--date", "2026-03-12")
    assert (code, shown) == (1, "")
    assert "airflow dags trigger retail_daily" in complaints


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("kpis",), 2, "Give --date, --customer, or both."),
        (("ledger", "--date", "yesterday"), 2, "'yesterday' is not a date"),
    ],
)
def test_a_mistake_is_one_sentence_when_the_arguments_are_wrong(
    run: Run, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    found = run(*arguments)
    assert found[0] == code
    assert sentence in found[2]
    assert "Traceback" not in found[2]


def test_a_person_is_told_at_once_when_the_lake_is_away(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": 1}}
    monkeypatch.setenv("AIRFLOW_CONN_HDFS_DEFAULT", json.dumps(closed))
    code, shown, complaints = run("ledger")
    assert (code, shown) == (1, "")
    assert complaints.startswith(f"HDFS at hdfs://{LOOPBACK}:1 is not available")
