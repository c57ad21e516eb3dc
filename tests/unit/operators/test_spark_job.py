"""The Spark application of a day as a worker runs it; a script stands in for spark-submit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tallyclerk.operators.spark_job import SparkDayJobOperator
from tests.running import RunTask

RECEIPTS = [
    {
        "dataset": dataset, "window": "2026-03-01", "location": f"hdfs://h:1/{dataset}", "details": {"rows": rows},
        "ledger": {"read": 9, "written": 9, "rejected": 0, "filtered": 0, "deduplicated": 0},
        "sources": [{"uri": "hdfs://h:1/raw", "records": 9}], "paths": [f"hdfs://h:1/{dataset}/year=2026/month=03/day=01"],
    }
    for dataset, rows in (("clean", 9), ("kpis", 2))
]  # fmt: skip


@pytest.fixture
def spark_submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is written there is what `spark-submit` does."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", "host": "local"}))
    program = tmp_path / "spark-submit"
    program.touch(mode=0o755)
    return program


def test_each_table_of_the_application_is_told_when_it_hands_its_receipts_over(
    spark_submit: Path, run_task: RunTask
) -> None:
    spark_submit.write_text(f"#!/bin/sh\necho INFO before\necho 'TALLYCLERK_RECEIPTS {json.dumps(RECEIPTS)}'\n")
    done: list[SparkDayJobOperator] = []  # the runner works with a copy
    task = SparkDayJobOperator(
        task_id="day", application="job.py", name="day", post_execute=lambda context, _: done.append(context["task"])
    )
    run = run_task(task, conf={"date": "2026-03-01"})
    assert (run.state, run.value) == ("success", None)
    lineage = done[0].get_openlineage_facets_on_complete(None)
    assert [(each.name, each.outputFacets["outputStatistics"].rowCount) for each in lineage.outputs] == [
        ("/clean", 9),
        ("/kpis", 2),
    ]
    (read,) = lineage.inputs
    assert (read.name, read.inputFacets["inputStatistics"].rowCount) == ("/raw", 18)
