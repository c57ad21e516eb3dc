"""The Spark engine of CsvToHdfsOperator as a worker runs it; a script stands in for spark-submit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stack.settings import ROOT
from tallyclerk.exceptions import SparkJobError, SpecError, TransientError
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tests.running import RunTask


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A landing folder with one file, and the connections; ``submitted`` below it gets what spark-submit was told."""
    landing = tmp_path / "landing"
    landing.mkdir()
    (landing / "transactions_2026-03-01.csv").write_text("header\nrow\n")
    connections: dict[str, dict[str, Any]] = {
        "hdfs_default": {"conn_type": "hdfs", "host": "127.0.0.1"},
        "fs_landing": {"conn_type": "fs", "extra": {"path": str(landing)}},
        "spark_default": {"conn_type": "spark", "host": "local"},
    }
    for name, facts in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(facts))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def load(folder: Path, run_task: RunTask, script: str, **options: Any) -> Any:
    program = folder / "spark-submit"
    program.write_text(f'#!/bin/sh\nfor last; do :; done\ncp "$last" {folder}/submitted\n{script}\n')
    program.chmod(0o755)
    task = CsvToHdfsOperator(
        task_id="sales",
        contract=str(ROOT / "include" / "contracts" / "transactions.odcs.yaml"),
        target=f"file://{folder}/sales",
        quarantine=f"file://{folder}/quarantine",
        **{"engine": "spark", "delimiter": ";", "mode": "FAILFAST", "spark_conf": {"spark.cores.max": "1"}} | options,
    )
    return run_task(task, conf={"date": "2026-03-01"})


def test_the_job_s_receipt_is_the_task_s_when_it_ends_well(folder: Path, run_task: RunTask) -> None:
    ledger = {"read": 3, "written": 2, "rejected": 1, "filtered": 0, "deduplicated": 0}
    receipt = {"dataset": "transactions", "window": "2026-03-01", "ledger": ledger, "location": "hdfs://h/t"}
    run = load(folder, run_task, f"echo 'TALLYCLERK_RECEIPTS {json.dumps([receipt])}'")
    assert run.state == "success"
    assert {name: run.value[name] for name in receipt} == receipt
    told = json.loads((folder / "submitted").read_text())
    assert (told["dialect"]["delimiter"], told["mode"], told["target"]) == (";", "FAILFAST", f"file://{folder}/sales")


@pytest.mark.parametrize(("code", "kind"), [(65, SparkJobError), (64, SpecError), (75, TransientError)])
def test_the_retry_policy_sees_the_kind_of_failure(
    folder: Path, run_task: RunTask, code: int, kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        load(folder, run_task, f"exit {code}")


def test_nothing_is_submitted_when_the_engine_cannot_do_it(folder: Path, run_task: RunTask) -> None:
    with pytest.raises(SpecError, match="Use engine='local'"):
        load(folder, run_task, "exit 0", encoding="UTF-16")
    with pytest.raises(SpecError, match="engine='flink' is not one of local, spark"):
        load(folder, run_task, "exit 0", engine="flink")
    assert not (folder / "submitted").exists()


def test_no_cluster_is_asked_when_a_day_has_no_files(folder: Path, run_task: RunTask) -> None:
    run = load(folder, run_task, "exit 1", pattern="nothing*.csv", allow_empty=True)
    assert (run.state, run.value["ledger"]["read"], run.value["details"]["engine"]) == ("success", 0, "local")
    assert not (folder / "submitted").exists()
