"""retail_daily through the stack's real scheduler, once a session: one day triggered twice at once, then a backfill over it.

``TALLYCLERK_BACKFILL_DAYS`` says over how many days (default 2); a day costs a Spark application.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import pytest
from cassandra.cluster import Session

from include.shop import customers, environment, landing, trading_days
from include.shop.trading_days import TradingDays
from stack import processes
from stack.settings import ROOT, Settings, load_settings
from stack.shell import shell_environment
from tallyclerk.core.receipt import Receipt
from tests.listening import Listener, listeners
from tests.system.reading_api import ReadingApi
from tests.system.retail import Kpis, cassandra_session, raw_receipts, served_kpis

DAG = "retail_daily"
_DAG_LIMIT_SECONDS = 120
_RUN_LIMIT_SECONDS = 900
_DAYS_AFTER_THE_FIRST = 100  # well in the past, and its file lands


@dataclass(frozen=True, slots=True)
class DayRuns:
    """Two runs of one day at once, and what the stores held of it right after.

    :param tasks: of each run by its id, the tasks' states.
    :param listeners: all that took connections meanwhile, looked at every few seconds.
    """

    day: date
    states: dict[str, str]
    tasks: dict[str, dict[str, str]]
    raw: list[Receipt]
    served: dict[str, Kpis]
    listeners: set[Listener]


@dataclass(frozen=True, slots=True)
class Backfill:
    """Two commands over the same days, one after the other."""

    days: list[date]
    first: subprocess.CompletedProcess[str]
    second: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def settings() -> Settings:
    return load_settings()


@pytest.fixture(scope="session")
def session(settings: Settings) -> Iterator[Session]:
    with cassandra_session(settings) as session:
        yield session


@pytest.fixture(scope="session")
def api(settings: Settings) -> Iterator[ReadingApi]:
    """Airflow, with the DAG read."""
    with ReadingApi(settings) as api:
        assert processes.wait_until(lambda: api.has_dag(DAG), _DAG_LIMIT_SECONDS), api.import_errors()
        yield api


@pytest.fixture(scope="session")
def calendar() -> TradingDays:
    """The shop's, which is seeded."""
    calendar = trading_days.current()
    landing.export_days(calendar, environment.landing_folder())
    customers.seed_customers(environment.database_conninfo(), calendar)
    return calendar


@pytest.fixture(scope="session")
def days(api: ReadingApi, calendar: TradingDays) -> list[date]:
    """Neighbouring days that no run has worked on, so that every session sees a first load."""
    count = int(os.environ.get("TALLYCLERK_BACKFILL_DAYS", "2"))
    taken = api.run_days(DAG)
    start = calendar.first_day + timedelta(days=_DAYS_AFTER_THE_FIRST)
    while start < calendar.yesterday - timedelta(days=count):
        found = [start + timedelta(days=number) for number in range(count)]
        if taken.isdisjoint(day.isoformat() for day in found):
            return found
        start += timedelta(days=1)
    pytest.fail(f"runs have worked on all days: `make reset`, or fewer than {count} TALLYCLERK_BACKFILL_DAYS")


@pytest.fixture(scope="session")
def triggered(api: ReadingApi, days: list[date], settings: Settings, session: Session) -> DayRuns:
    """The first of the days, triggered by its date alone: twice at once, as two people may."""
    api.unpause(DAG)
    runs = [api.trigger(DAG, {"date": days[0].isoformat()}) for _ in range(2)]

    seen: set[Listener] = set()

    def states() -> dict[str, str]:
        return {run_id: api.run_state(DAG, run_id) for run_id in runs}

    def are_over() -> bool:
        seen.update(listeners(settings))
        return set(states().values()) <= {"success", "failed"}

    processes.wait_until(are_over, len(runs) * _RUN_LIMIT_SECONDS, poll_seconds=2)
    return DayRuns(
        days[0],
        states(),
        {run_id: api.task_states(DAG, run_id) for run_id in runs},
        raw_receipts(settings, days[0]),
        served_kpis(session, days[0]),
        seen,
    )


@pytest.fixture(scope="session")
def backfilled(triggered: DayRuns, days: list[date], settings: Settings) -> Backfill:
    """All the days, the triggered one again among them."""
    first, second = (_backfill(settings, days) for _ in range(2))
    return Backfill(days, first, second)


def _backfill(settings: Settings, days: list[date]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".venv/bin/airflow", "dags", "backfill", DAG, "-s", str(days[0]), "-e", str(days[-1])],
        env={**processes.base_environment(), **shell_environment(settings)},
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_RUN_LIMIT_SECONDS * len(days),
    )
