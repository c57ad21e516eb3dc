"""What retail_daily's tasks tell OpenLineage through the real scheduler, against the source's own totals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack.services.airflow import lineage_file
from stack.settings import Settings
from tests.system.conftest import DAG, DayRuns
from tests.system.retail import expected_kpis, expected_ledger

pytestmark = [pytest.mark.system, pytest.mark.slow]

KPIS = "pipeline.customer_kpis"


@pytest.fixture(scope="module")
def completed(triggered: DayRuns, settings: Settings) -> list[dict[str, Any]]:
    """The events by which the tasks of the day's two runs ended."""
    if settings.option("LINEAGE") == "off":
        pytest.skip("TALLYCLERK_LINEAGE=off")
    with lineage_file(settings).open() as lines:
        events = [json.loads(line) for line in lines]
    return [event for event in events if event["eventType"] == "COMPLETE" and _run_id(event) in triggered.states]


def test_each_task_of_each_run_ends_with_one_event_when_a_day_is_run(
    completed: list[dict[str, Any]], triggered: DayRuns
) -> None:
    told = sorted((_run_id(event), event["job"]["name"].removeprefix(f"{DAG}.")) for event in completed)
    assert told == sorted((run_id, task) for run_id, tasks in triggered.tasks.items() for task in tasks)


def test_the_rows_told_are_those_of_the_source_when_a_day_is_run_twice_at_once(
    completed: list[dict[str, Any]], triggered: DayRuns
) -> None:
    ledger = expected_ledger(triggered.day)
    # one of the runs has written, the other has found the rows there
    assert _rows_into(completed, "/data/raw/transactions") == ledger.written
    sales = [load for load in _loads(completed, "sales_to_hdfs") if not load["repeated"]]
    assert [load["ledger"] for load in sales] == [ledger.as_dict()]
    kpis = [
        load
        for load in _loads(completed, "kpis_to_cassandra")
        if load["window"] == triggered.day.isoformat() and not load["repeated"]
    ]
    assert {load["ledger"]["written"] for load in kpis} == {len(expected_kpis(triggered.day))}


def test_the_way_of_the_rows_has_no_gap_when_its_events_are_joined(completed: list[dict[str, Any]]) -> None:
    after: dict[str, set[str]] = {}
    for event in completed:
        for read in event["inputs"]:
            after.setdefault(read["name"], set()).update(wrote["name"] for wrote in event["outputs"])
    files = [each["name"] for event in completed for each in event["inputs"] if each["namespace"] == "file"]
    assert files
    reached, ahead = set(), files
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(after.get(name, ()))
    assert KPIS in reached


def _run_id(event: dict[str, Any]) -> str | None:
    """Of a task's event; None for that of a whole run."""
    return event["run"]["facets"].get("airflow", {}).get("dagRun", {}).get("run_id")


def _rows_into(events: list[dict[str, Any]], name: str) -> int:
    outputs = [each for event in events for each in event["outputs"] if each["name"] == name]
    return sum(each["outputFacets"]["outputStatistics"]["rowCount"] for each in outputs)


def _loads(events: list[dict[str, Any]], task: str) -> list[dict[str, Any]]:
    return [
        load
        for event in events
        if event["job"]["name"] == f"{DAG}.{task}"
        for load in event["run"]["facets"]["tallyclerk_loads"]["loads"]
    ]
