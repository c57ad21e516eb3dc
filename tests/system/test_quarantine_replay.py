"""Fix → replay → the ledger closes, through the real scheduler: one damaged record of a day, and what it is in all stores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from cassandra.cluster import Session

from include.shop import environment
from include.shop.trading_days import TradingDays
from stack import processes
from stack.settings import Settings
from tests.system.conftest import DAG
from tests.system.reading_api import ReadingApi
from tests.system.retail import expected_kpis, expected_ledger, kpi_differences, raw_receipts

pytestmark = [pytest.mark.system, pytest.mark.long]

REPLAY = "quarantine_replay"
_DAYS_AFTER_THE_FIRST = 200  # of its own, apart from those that other tests load
_RUN_LIMIT_SECONDS = 900


@pytest.fixture
def day(api: ReadingApi, calendar: TradingDays) -> date:
    """A day that no run has worked on."""
    taken, found = api.run_days(DAG), calendar.first_day + timedelta(days=_DAYS_AFTER_THE_FIRST)
    while found.isoformat() in taken:
        found += timedelta(days=1)
    assert found < calendar.yesterday, "runs have worked on all days: `make reset`"
    return found


@pytest.fixture
def damaged(day: date) -> Iterator[tuple[int, str]]:
    """The day's file with one amount that is none: the record's number, and the line as the till wrote it."""
    path = Path(environment.landing_folder()) / f"transactions_{day}.csv"
    delivered = path.read_text(encoding="utf-8")
    lines = delivered.splitlines()
    number = next(n for n, line in enumerate(lines) if n and float(line.split(",")[6]) > 0)
    fields = lines[number].split(",")
    fields[6] = "broken"
    try:
        path.write_text("\n".join([*lines[:number], ",".join(fields), *lines[number + 1 :], ""]), encoding="utf-8")
        yield number, lines[number]
    finally:
        path.write_text(delivered, encoding="utf-8")


def run(api: ReadingApi, dag_id: str, conf: dict) -> str:
    api.unpause(dag_id)
    run_id = api.trigger(dag_id, conf)
    over = processes.wait_until(
        lambda: api.run_state(dag_id, run_id) in ("success", "failed"), _RUN_LIMIT_SECONDS, poll_seconds=1
    )
    assert over, api.task_states(dag_id, run_id)
    assert api.run_state(dag_id, run_id) == "success", api.task_states(dag_id, run_id)
    return run_id


def test_every_store_is_exact_when_a_damaged_record_is_replayed(
    api: ReadingApi, day: date, damaged: tuple[int, str], settings: Settings, session: Session
) -> None:
    number, line = damaged
    assert processes.wait_until(lambda: api.has_dag(REPLAY), 120), api.import_errors()
    run(api, DAG, {"date": day.isoformat()})
    whole = expected_ledger(day)
    (rejected,) = (receipt.ledger for receipt in raw_receipts(settings, day)[:1])
    assert (rejected.read, rejected.written, rejected.rejected) == (whole.read, whole.written - 1, 1)
    assert len(kpi_differences(session, day)) == 1

    conf = {
        "dataset": "transactions",
        "date": day.isoformat(),
        "corrections": [{"record_number": number, "text": line}],
    }
    run_id = run(api, REPLAY, conf)
    told = api.xcom(REPLAY, run_id, "ledger_closes")
    assert (told["before"], told["after"]) == (rejected.as_dict(), whole.as_dict())
    assert (told["open"], told["corrections"]["applied"]) == (0, 1)
    assert raw_receipts(settings, day)[0].ledger == whole
    assert kpi_differences(session, day) == [], expected_kpis(day)
