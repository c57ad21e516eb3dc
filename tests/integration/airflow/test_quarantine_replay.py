"""Fix → replay → the ledger closes: a day's corrections on HDFS, and its loads by the operator that a DAG uses."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from stack.settings import LOOPBACK, load_settings
from tallyclerk.exceptions import CorrectionsRejectedError, ReconcileError, SpecError, SpecErrors
from tallyclerk.operators.replay import CheckReplayOperator, RecordCorrectionsOperator
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tests.running import RunTask

pytestmark = pytest.mark.integration
DAY = "2026-03-01"
NAME = f"sales_{DAY}.csv"
DAMAGED = f"id,amount,sold_on\n1,1.00,{DAY}\n2,x,{DAY}\n3,3.00\n4,-4.00,{DAY}\n5,5.00,{DAY}\n"
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: {dataset}
name: {dataset}
version: 1.0.0
status: active
servers:
  - {{server: landing, type: custom, format: csv, path: "sales_{{date}}.csv*", delimiter: ","}}
schema:
  - name: {dataset}
    properties:
      - {{name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}}
      - {{name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true, logicalTypeOptions: {{minimum: 0}}}}
      - {{name: sold_on, logicalType: date, physicalType: date, required: true}}
"""


class Shop:
    """A data set of its own: one damaged file, its loads, and its replays."""

    def __init__(self, folder: Path, run_task: RunTask) -> None:
        self.dataset, self.folder, self._run = f"test_{uuid.uuid4().hex[:12]}", folder, run_task
        (folder / "contract.odcs.yaml").write_text(CONTRACT.format(dataset=self.dataset), encoding="utf-8")
        self.deliver(DAMAGED)

    def deliver(self, text: str) -> None:
        (self.folder / NAME).write_text(text, encoding="utf-8")

    def load(self, **options: Any) -> dict[str, Any]:
        return self._run(
            CsvToHdfsOperator(
                task_id="load", contract=str(self.folder / "contract.odcs.yaml"), target=f"/data/raw/{self.dataset}",
                mode="DROPMALFORMED", **options,
            ),
            conf={"date": DAY},
        ).value  # fmt: skip

    def correct(self, *corrections: dict[str, Any]) -> dict[str, Any]:
        operator = RecordCorrectionsOperator(
            task_id="record", dataset=self.dataset, corrections=json.dumps(corrections), note="test"
        )
        return self._run(operator, conf={"date": DAY}).value

    def check(self, before: dict[str, int]) -> dict[str, Any]:
        operator = CheckReplayOperator(task_id="check", dataset=self.dataset, before=json.dumps(before))
        return self._run(operator, conf={"date": DAY}).value

    def rows(self) -> list[tuple[int, str]]:
        uri = load_settings().port("HDFS")
        table = DeltaTable(f"hdfs://{LOOPBACK}:{uri}/data/raw/{self.dataset}").to_pyarrow_table()
        return sorted((row["id"], str(row["amount"])) for row in table.to_pylist())


@pytest.fixture
def shop(tmp_path: Path, run_task: RunTask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    from hdfs_native import Client

    port = load_settings().port("HDFS")
    monkeypatch.setenv(
        "AIRFLOW_CONN_HDFS_DEFAULT", json.dumps({"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": port}})
    )
    monkeypatch.setenv("AIRFLOW_CONN_FS_LANDING", json.dumps({"conn_type": "fs", "extra": {"path": str(tmp_path)}}))
    shop = Shop(tmp_path, run_task)
    yield shop
    for zone in ("raw", "quarantine", "corrections"):
        Client(f"hdfs://{LOOPBACK}:{port}").delete(f"/data/{zone}/{shop.dataset}", recursive=True)


def ledger(read: int, written: int, rejected: int, filtered: int = 0) -> dict[str, int]:
    return {"read": read, "written": written, "rejected": rejected, "filtered": filtered, "deduplicated": 0}


def test_the_ledger_closes_when_a_day_is_replayed(shop: Shop) -> None:
    assert shop.load()["ledger"] == ledger(5, 2, 3)
    mends = {"record_number": 2, "text": f"2,2.00,{DAY}"}, {"source": NAME, "record_number": 4, "text": None}
    recorded = shop.correct(*mends)
    assert (recorded["before"], recorded["corrections"]) == (ledger(5, 2, 3), 2)
    loaded = shop.load()
    assert (loaded["ledger"], loaded["repeated"]) == (ledger(5, 3, 1, 1), False)
    told = shop.check(recorded["before"])
    assert (told["after"], told["open"], told["corrections"]["applied"]) == (ledger(5, 3, 1, 1), 1, 1)
    # whoever loads the day again gets the same rows
    assert shop.load()["repeated"] is True
    assert shop.load(reload=True)["ledger"] == ledger(5, 3, 1, 1)
    assert shop.rows() == [(1, "1.00"), (2, "2.00"), (5, "5.00")]
    # the same corrections again are none, also now that their records are out of quarantine
    assert shop.correct(*mends)["corrections"] == 2
    assert shop.load()["repeated"] is True


def test_the_newest_correction_counts_when_a_record_is_corrected_twice(shop: Shop) -> None:
    before = shop.load()["ledger"]
    shop.correct({"record_number": 2, "text": f"2,two,{DAY}"})
    assert shop.load()["ledger"] == ledger(5, 2, 3)
    with pytest.raises(CorrectionsRejectedError, match="record 2: amount type: after correction 1: 'two'"):
        shop.check(before)
    shop.correct({"record_number": 2, "text": f"2,2.00,{DAY}"})
    assert shop.load()["ledger"] == ledger(5, 3, 2)
    assert shop.check(before)["open"] == 2


def test_nothing_is_kept_when_one_correction_is_of_no_rejected_record(shop: Shop) -> None:
    shop.load()
    with pytest.raises(SpecErrors, match="record 1 is not in the window's quarantine"):
        shop.correct({"record_number": 2, "text": f"2,2.00,{DAY}"}, {"record_number": 1, "text": "1"})
    assert shop.load()["repeated"] is True


def test_corrections_are_told_and_left_when_the_file_is_delivered_anew(shop: Shop) -> None:
    before = shop.load()["ledger"]
    shop.correct({"record_number": 2, "text": f"2,2.00,{DAY}"})
    shop.deliver(DAMAGED + f"6,6.00,{DAY}\n")
    loaded = shop.load()
    assert loaded["ledger"] == ledger(6, 3, 3)
    assert loaded["details"]["corrections"]["of_changed_files"] == 1
    with pytest.raises(ReconcileError, match="a file was delivered anew"):
        shop.check(before)
    # the same text for the new file is a new correction
    assert shop.correct({"record_number": 2, "text": f"2,2.00,{DAY}"})["corrections"] == 2
    assert shop.load()["ledger"] == ledger(6, 4, 2)


def test_the_cluster_refuses_when_a_day_has_corrections(shop: Shop) -> None:
    shop.load()
    shop.correct({"record_number": 2, "text": None})
    with pytest.raises(SpecError, match="engine='spark' does not apply"):
        shop.load(engine="spark")
