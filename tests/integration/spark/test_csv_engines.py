"""CsvToHdfsOperator's two engines over one damaged day, as a worker runs them: the same ledger, rows, quarantine and receipt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import Asset
from deltalake import DeltaTable

from tallyclerk.contracts import load_contract
from tallyclerk.core.window import Window
from tallyclerk.sources.csv_files import CsvFiles
from tallyclerk.sources.csv_spark_spec import spark_spec
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tests.integration.spark.conftest import ROOT, BatchSession, Connect
from tests.integration.spark.small_lake import SmallLake
from tests.running import RunTask, TaskRun

pytestmark = pytest.mark.integration
DAY = "2026-01-31"
CONTRACT = ROOT / "include" / "contracts" / "transactions.odcs.yaml"
SALES = Asset(name="test_cluster_sales", uri="tallyclerk://lake/test/cluster_sales")
HEADER = (
    "transaction_id;household_id;store_id;basket_id;product_id;quantity;sales_value;retail_disc;coupon_disc;"
    "coupon_match_disc;week;transaction_timestamp\n"
)
TAIL = "0.00;0.00;0.00;5;2026-01-31 10:00:00"
OWN_WORDS = ("columns", "quote")
"""Reasons whose detail DuckDB tells in its own words."""


def key(number: int) -> str:
    return f"2cee4560-d579-51fb-ae07-{number:012d}"


def delivery() -> bytes:
    good = [f"{key(n)};{n % 7};1;1;p{n};1;{n}.25;{TAIL}\n" for n in range(1, 41)]
    bad = [
        f"{key(101)};1;1;1;p;1;1.00\n",  # too few columns
        f"{key(102)};1;1;1;p;1;1.00;{TAIL};more\n",
        f"{key(103)};1.6;1;1;p;1;1.00;{TAIL}\n",
        f"{key(104)};1;1;1;p;1;1e3;{TAIL}\n",
        f"{key(105)};1;1;1;p;-1;1.00;{TAIL}\n",  # below the minimum
        f"{key(106)};1;1;1;p;1;-0.01;{TAIL}\n",
        f"{key(107)};1;1;1;n/a;1;1.00;{TAIL}\n",  # the null text, where the contract requires a value
        f"{key(108)};1;1;1;p;1;1.00;n/a;0.00;0.00;5;2026-01-31 10:00:00\n",  # ... and where the operator does
        f'{key(109)};1;1;1;"p"x;1;1.00;{TAIL}\n',
        f"{key(110)};1;1;1;p;1;1.00;{TAIL.replace('01-31', '02-30')}\n",
        f"{key(111)[:-1]};1;1;1;p;1;1.00;{TAIL}\n",
    ]
    free = [f"{key(n)};1;1;1;p;1;0.00;{TAIL}\n" for n in (301, 302, 303)]  # filtered
    again = [f"{key(5)};5;1;1;corrected;1;5.55;{TAIL}\n"]
    unusual = f"{key(202)};007;1;1;p;1;.5;1.500;0.;0;5;2026-01-31 10:00:00.500\n"
    text = [
        unusual,
        f'{key(200)};1;1;1;"two\nlines; ""quoted""";1;2.00;{TAIL}\n',
        f"{key(201)};1;1;1;Müsli 5€;1;3.00;{TAIL}\n",
    ]
    return (HEADER + "".join(good[:20] + bad + free + good[20:] + again + text)).encode("cp1252")


@pytest.fixture
def landing(connect: Connect, tmp_path: Path) -> Path:
    """A landing folder with the damaged day."""
    connect("fs_landing", conn_type="fs", extra={"path": str(tmp_path)})
    (tmp_path / f"transactions_{DAY}.csv").write_bytes(delivery())
    return tmp_path


def operator(target: str, engine: str) -> CsvToHdfsOperator:
    return CsvToHdfsOperator(
        task_id=f"sales_by_{engine}",
        contract=str(CONTRACT),
        target=f"{target}/rows",
        quarantine=f"{target}/quarantine",
        delimiter=";",
        null_text="n/a",
        encoding="cp1252",
        required_columns=["retail_disc"],
        row_filters=["sales_value > 0"],
        max_rejected_ratio=0.25,
        outlets=[SALES],
        engine=engine,
    )


def load(run_task: RunTask, target: str, engine: str) -> TaskRun:
    return run_task(operator(target, engine), conf={"date": DAY})


def stored(uri: str, *leave_out: str) -> list[dict[str, Any]]:
    rows = DeltaTable(uri).to_pyarrow_table().to_pylist()
    kept = [{name: value for name, value in row.items() if name not in leave_out} for row in rows]
    return sorted(kept, key=lambda row: json.dumps(row, default=str, sort_keys=True))


def quarantined(receipt: dict[str, Any]) -> list[dict[str, Any]]:
    rows = stored(receipt["quarantine"], "load_id", "rejected_at")
    return [row | {"detail": "" if row["reason"] in OWN_WORDS else row["detail"]} for row in rows]


def test_both_engines_give_one_answer_when_a_day_is_damaged(landing: Path, lake: SmallLake, run_task: RunTask) -> None:
    runs = {engine: load(run_task, f"{lake.uri}/{engine}", engine) for engine in ("local", "spark")}
    ours, theirs = runs["local"].value, runs["spark"].value

    assert theirs["ledger"] == {"read": 58, "written": 43, "rejected": 11, "filtered": 3, "deduplicated": 1}
    same = ("dataset", "window", "ledger", "sources", "fingerprint", "contract_version", "cursor", "repeated")
    assert {name: theirs[name] for name in same} == {name: ours[name] for name in same}
    assert theirs["details"]["engine"] == "spark"
    assert runs["spark"].events == {SALES.uri: {"receipt": theirs}}
    assert stored(theirs["location"]) == stored(ours["location"])
    assert quarantined(theirs) == quarantined(ours)
    assert len({row["record_number"] for row in quarantined(theirs)}) == 11

    # the worker's engine finds the cluster's load in the table's commits: the same load is not done twice ...
    assert load(run_task, f"{lake.uri}/spark", "local").value == theirs | {"repeated": True}
    # ... and a mended day empties the quarantine that the cluster filled
    clean = [line for line in delivery().splitlines(keepends=True) if line.startswith(HEADER[:20].encode())]
    (landing / f"transactions_{DAY}.csv").write_bytes(b"".join(clean) + f"{key(1)};1;1;1;p;1;1.00;{TAIL}\n".encode())
    mended = load(run_task, f"{lake.uri}/spark", "local").value
    assert mended["version"] == theirs["version"] + 1
    assert [row["transaction_id"] for row in stored(theirs["location"])] == [key(1)]
    assert stored(theirs["quarantine"]) == []


def test_cluster_takes_the_load_of_another_when_it_was_committed_since_the_attempt_began(
    landing: Path, lake: SmallLake, batch_session: BatchSession
) -> None:
    def load_by(load_id: str, *, former: str) -> dict[str, Any]:
        source = operator(lake.uri, "spark").make_source(load_contract(CONTRACT), load_id)
        assert isinstance(source, CsvFiles)
        spec = spark_spec(
            source, Window.of_day(DAY), target=f"{lake.uri}/rows", quarantine=f"{lake.uri}/quarantine", former=former
        )
        receipt: dict[str, Any] = batch_session.ask(lake, only="csv", spec=spec)["receipts"][0]
        return receipt

    theirs = load_by("early", former="")
    assert load_by("late", former="") == theirs | {"repeated": True}
    assert DeltaTable(f"{lake.uri}/rows").version() == theirs["version"]
    # who is asked to load again, and knows of the former load, does so
    again = load_by("late", former="early")
    assert (again["version"], again["load_id"], again["ledger"]) == (theirs["version"] + 1, "late", theirs["ledger"])
