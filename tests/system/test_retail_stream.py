"""The stream through the stack's real scheduler: today's sales as they happen, and both layers' answers for yesterday."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

import pytest
from cassandra.cluster import Session

from include.shop import trading_days
from include.shop.totals import GroupTotals, customer_totals, sold_until
from include.shop.trading_days import TradingDays
from stack import processes
from stack.demo import STREAM, STREAM_READY
from stack.services import flink
from stack.settings import LOOPBACK, Settings
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.serving.kpi_view import KpiRow, KpiView
from tests.conftest import Tell
from tests.system.conftest import DAG
from tests.system.reading_api import ReadingApi

pytestmark = [pytest.mark.system, pytest.mark.slow]
_RUN_LIMIT_SECONDS = 900
_FRESH_LIMIT_SECONDS = 300
_JOBS = ("customer_kpis", "department_minutes")


@dataclass(frozen=True, slots=True)
class Streaming:
    """A run of the stream that has caught up and goes on. :param today: its day."""

    run_id: str
    today: date
    yesterday: date


@pytest.fixture(scope="module")
def streaming(api: ReadingApi, settings: Settings, calendar: TradingDays) -> Iterator[Streaming]:
    """Today's run; what this has started is ended and paused afterwards, what ran before runs on."""
    assert processes.wait_until(lambda: api.has_dag(STREAM), 120), api.import_errors()
    was_paused = api.is_paused(STREAM)
    run_id = scheduled(api, STREAM, calendar.today) or api.trigger(STREAM, {})

    def is_ready() -> bool:
        assert api.run_state(STREAM, run_id) in ("queued", "running"), api.task_states(STREAM, run_id)
        return api.task_states(STREAM, run_id).get(STREAM_READY) == "success"

    try:
        assert processes.wait_until(is_ready, _RUN_LIMIT_SECONDS, poll_seconds=2), api.task_states(STREAM, run_id)
        yield Streaming(run_id, calendar.today, calendar.yesterday)
    finally:
        if was_paused:
            api.end(STREAM, run_id)
            end_jobs(settings)


def end_jobs(settings: Settings) -> None:
    """The stream's Flink jobs; the next run resumes them from their checkpoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_FLINK_DEFAULT", f"flink://{LOOPBACK}:{settings.port('FLINK')}")
        hook = FlinkHook()
        alive = [job.job_id for job in hook.jobs() if job.name in _JOBS and job.state == "RUNNING"]
        for job in alive:
            hook.cancel(job)
        assert processes.wait_until(lambda: all(hook.state(job) == "CANCELED" for job in alive), 120), flink.url(
            settings
        )


def scheduled(api: ReadingApi, dag_id: str, day: date) -> str | None:
    """The scheduler's own run of the day, which it makes when the DAG is unpaused; None when it makes none."""
    api.unpause(dag_id)
    processes.wait_until(lambda: api.scheduled_run(dag_id, day.isoformat()) is not None, 120, poll_seconds=1)
    return api.scheduled_run(dag_id, day.isoformat())


def totals(rows: list[KpiRow]) -> dict[int, GroupTotals]:
    return {int(row.customer_id): GroupTotals(row.total_amount, row.transaction_count) for row in rows}


def now() -> datetime:
    """The shop's time."""
    return datetime.combine(trading_days.current().today, datetime.now(UTC).time())


def test_a_sale_of_today_is_in_the_view_soon_after_the_shop_shows_it(
    streaming: Streaming, session: Session, tell: Tell
) -> None:
    view, moment = KpiView(session), now()
    sold, began = sum(spent.count for spent in sold_until(moment).values()), time.monotonic()

    def is_served() -> bool:
        return sum(row.transaction_count for row in view.day(moment.date())) >= sold

    assert processes.wait_until(is_served, _FRESH_LIMIT_SECONDS, poll_seconds=0.5)
    tell(f"{sold:,} sales until {moment:%H:%M:%S} are in the view {time.monotonic() - began:.1f} s later")
    assert {row.layer for row in view.day(moment.date())} <= {"speed"}
    # to the cent, at a moment without a sale on its way
    assert processes.wait_until(
        lambda: totals(view.day(moment.date())) == sold_until(now()), _FRESH_LIMIT_SECONDS, poll_seconds=0.5
    )


def test_both_layers_agree_on_yesterday_to_the_cent(streaming: Streaming, api: ReadingApi, session: Session) -> None:
    yesterday = streaming.yesterday
    before = api.scheduled_run(DAG, yesterday.isoformat())
    run_id = scheduled(api, DAG, yesterday)
    if run_id is None or run_id == before:  # that one may be over: it is to run beside the stream
        run_id = api.trigger(DAG, {"date": yesterday.isoformat()})
    over = processes.wait_until(
        lambda: api.run_state(DAG, run_id) in ("success", "failed"), _RUN_LIMIT_SECONDS, poll_seconds=2
    )
    assert over, api.task_states(DAG, run_id)
    assert api.run_state(DAG, run_id) == "success", api.task_states(DAG, run_id)
    expected, view = customer_totals(yesterday), KpiView(session)
    facts = api.xcom(DAG, run_id, "reconcile")[yesterday.isoformat()]
    assert (facts["status"], facts["agreeing"], facts["customers"]) == ("agrees", len(expected), len(expected))
    assert totals(view.layer("speed", yesterday)) == totals(view.layer("batch", yesterday)) == expected
    assert {row.layer for row in view.day(yesterday)} == {"batch"}
