"""Days of retail_daily, triggered and backfilled, against an independent computation from the source's own file."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from cassandra.cluster import Session

from stack.services import SERVICES
from stack.settings import Settings
from tallyclerk.serving.kpi_view import KpiView
from tests.system.conftest import DAG, Backfill, DayRuns
from tests.system.reading_api import ReadingApi
from tests.system.retail import Kpis, expected_kpis, expected_ledger, kpi_differences, raw_receipts, served_kpis

pytestmark = [pytest.mark.system, pytest.mark.slow]


def test_both_runs_succeed_when_a_day_is_triggered_twice_at_once(triggered: DayRuns) -> None:
    assert set(triggered.states.values()) == {"success"}, triggered.tasks
    assert [set(tasks.values()) for tasks in triggered.tasks.values()] == [{"success"}] * 2


def test_the_kpis_equal_the_source_when_a_day_is_triggered(triggered: DayRuns) -> None:
    assert triggered.served == expected_kpis(triggered.day) != {}


def test_the_view_answers_from_the_batch_layer_when_a_day_is_triggered(
    triggered: DayRuns, session: Session, api: ReadingApi
) -> None:
    rows = KpiView(session).day(triggered.day)
    assert {row.customer_id: Kpis(*astuple(row)[2:5]) for row in rows} == expected_kpis(triggered.day)
    assert {row.layer for row in rows} == {"batch"}
    for run_id in triggered.states:
        facts = api.xcom(DAG, run_id, "reconcile")[triggered.day.isoformat()]
        assert facts["status"] == "not_streamed"  # the day is long past: nothing of it was sold live


def test_there_is_one_raw_receipt_when_a_day_is_triggered_twice_at_once(triggered: DayRuns) -> None:
    assert [receipt.ledger for receipt in triggered.raw] == [expected_ledger(triggered.day)]


def test_everything_listens_on_loopback_when_a_day_runs(triggered: DayRuns, settings: Settings) -> None:
    declared = {settings.port(port) for service in SERVICES for port in service.ports}
    at_work = {listener.service for listener in triggered.listeners if listener.port not in declared}
    assert {"airflow-scheduler", "spark-worker"} <= at_work, "Spark's driver and executor were not looked at"
    assert [listener for listener in triggered.listeners if not listener.is_on_loopback] == []


def test_every_day_is_exact_when_they_are_backfilled(
    backfilled: Backfill, settings: Settings, session: Session
) -> None:
    assert backfilled.first.returncode == 0, f"{backfilled.first.stdout}\n{backfilled.first.stderr}"
    count = len(backfilled.days)
    assert f"{count} of {count} runs succeeded" in backfilled.first.stdout
    assert [line for day in backfilled.days for line in kpi_differences(session, day)] == []
    assert {day: raw_receipts(settings, day)[0].ledger for day in backfilled.days} == {
        day: expected_ledger(day) for day in backfilled.days
    }


def test_nothing_is_done_when_the_backfill_is_repeated(backfilled: Backfill) -> None:
    assert backfilled.second.returncode == 0, f"{backfilled.second.stdout}\n{backfilled.second.stderr}"
    assert "nothing to do" in backfilled.second.stdout


def test_rows_and_raw_version_stay_when_a_day_is_run_again(
    triggered: DayRuns, backfilled: Backfill, api: ReadingApi, settings: Settings, session: Session
) -> None:
    backfill_run = api.scheduled_run(DAG, str(triggered.day))
    assert backfill_run
    receipt = api.xcom(DAG, backfill_run, "sales_to_hdfs")
    assert (receipt["repeated"], receipt["version"]) == (True, triggered.raw[0].version)
    assert raw_receipts(settings, triggered.day) == triggered.raw
    assert served_kpis(session, triggered.day) == triggered.served
