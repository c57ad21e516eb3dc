"""`make run`: seed the shop, start the speed layer, run yesterday's `retail_daily`, follow the customers' changes, show what came out.

Unpausing a daily DAG makes the scheduler create its newest run by itself: the demo follows that one, and triggers a run of
its own only where there is none to follow. The stream's run goes on when the demo ends, until its day is over.
"""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from stack import processes
from stack.airflow_api import AirflowApi
from stack.errors import StackError, ToolMissingError
from stack.settings import Settings
from stack.shell import shell_environment

DAILY = "retail_daily"
STREAM = "retail_stream"
STREAM_READY = "kpis_are_current"
"""When this task of the stream has succeeded, the speed layer has all sales with which the batch layer is compared."""
CHANGES = "retail_customers_cdc"
_DAG_LIMIT_SECONDS = 300
_SCHEDULED_LIMIT_SECONDS = 60
_RUN_LIMIT_SECONDS = 1800
_FRESH_LIMIT_SECONDS = 180


def run_demo(settings: Settings) -> int:
    """Runs the demo against a stack that is up; 0 when every DAG's run succeeded.

    :raises StackError: the shop, a DAG or the API is not as it should be.
    """
    print("seeding the shop", flush=True)
    _python(settings, "-m", "include.shop", "seed")
    days = json.loads(_python(settings, "-m", "include.shop", "days", quiet=True))
    today, yesterday = days["today"], days["yesterday"]
    with AirflowApi(settings) as api:
        states = {STREAM: run_dag(api, STREAM, today, until=STREAM_READY)}
        states[DAILY] = run_dag(api, DAILY, yesterday)
        # twice: the first run ever only finds where to follow the customers from
        states[CHANGES] = run_dag(api, CHANGES)
        if states[CHANGES] == "success":
            _python(settings, "-m", "include.shop", "change-customers", "--count", "20")
            states[CHANGES] = run_dag(api, CHANGES)
    for dag_id, state in states.items():
        if state != "success":
            print(f"{dag_id} for {yesterday}: {state}; the tasks' logs are in {settings.logs / 'airflow'}")
    if set(states.values()) != {"success"}:
        return 1
    print(f"\nLedger of {yesterday}", flush=True)
    _airflow(settings, "tallyclerk", "ledger", "--date", yesterday)
    print(f"\nTop customers of {yesterday}: a closed day, answered by the batch layer", flush=True)
    _airflow(settings, "tallyclerk", "kpis", "--date", yesterday, "--limit", "10")
    if not _show_today(settings):
        return 1
    print("\nNewest changes of customers", flush=True)
    _airflow(settings, "tallyclerk", "ledger", "--dataset", "customers", "--limit", "3")
    return 0


def run_dag(api: AirflowApi, dag_id: str, day: str | None = None, *, until: str | None = None) -> str:
    """Sees one run of a DAG to its end, printing each step; returns the run's state.

    :param day: the run's logical date; None is now, for a DAG that takes up where its last run ended.
    :param until: a task after whose success the run, which goes on, counts as one.
    """
    if not processes.wait_until(lambda: api.has_dag(dag_id), _DAG_LIMIT_SECONDS):
        problems = "; ".join(api.import_errors()) or "the DAG processor has not read it"
        raise StackError(f"Airflow has no DAG {dag_id}: {problems}")
    api.unpause(dag_id)
    run_id = _scheduled(api, dag_id, day) if day else None
    if run_id is None:
        # a stream's run is of the day in which it begins, and needs no date
        run_id = api.trigger(dag_id, {"date": day} if day and not until else {})
        print(f"triggered {dag_id}: {run_id}", flush=True)
    elif api.run_state(dag_id, run_id) == "success":
        print(f"{dag_id}: {run_id} has succeeded already; run it again with ./airflow dags trigger {dag_id}")
        return "success"
    else:
        print(f"following {dag_id}: {run_id}", flush=True)
    return _follow(api, dag_id, run_id, until)


def _scheduled(api: AirflowApi, dag_id: str, day: str) -> str | None:
    """The scheduler's own run, once it has made it; None when it will make none, or when that one has failed."""
    found: str | None = None

    def is_there() -> bool:
        nonlocal found
        found = api.scheduled_run(dag_id, day)
        return found is not None

    # with SHOP_TODAY set, the shop's yesterday may be a day that the scheduler is not at
    today = datetime.now(UTC).date()
    is_due = day in (str(today), str(today - timedelta(days=1)))
    processes.wait_until(is_there, _SCHEDULED_LIMIT_SECONDS if is_due else 0, poll_seconds=1)
    return None if found and api.run_state(dag_id, found) == "failed" else found


def _follow(api: AirflowApi, dag_id: str, run_id: str, until: str | None) -> str:
    """Prints each change of a task's state until the run is over; returns the run's state."""
    began = time.monotonic()
    seen: dict[str, str] = {}
    state = "queued"

    def is_over() -> bool:
        nonlocal state
        # the run first: what its tasks did before it ended is then still printed
        state = api.run_state(dag_id, run_id)
        for task, task_state in sorted(api.task_states(dag_id, run_id).items()):
            if seen.get(task) != task_state and task_state not in ("waiting", "scheduled", "queued"):
                print(f"  {time.monotonic() - began:5.0f} s  {task:<32} {task_state}", flush=True)
                seen[task] = task_state
        if until and state == "running" and seen.get(until) in ("success", "failed", "upstream_failed"):
            state = "success" if seen[until] == "success" else "failed"
        return state in ("success", "failed")

    if not processes.wait_until(is_over, _RUN_LIMIT_SECONDS, poll_seconds=1):
        raise StackError(f"{dag_id} {run_id} is still {state} after {_RUN_LIMIT_SECONDS} s")
    return state


def _show_today(settings: Settings) -> bool:
    """Waits until the view has a moment's sales to the cent, and shows them; False when it does not get there."""
    sold = json.loads(_python(settings, "-m", "include.shop", "sold", quiet=True))
    began = time.monotonic()
    served: list[dict[str, str]] = []

    def is_served() -> bool:
        nonlocal served
        served = _kpis(settings, sold["date"])
        return sum(int(row["transaction_count"]) for row in served) >= sold["sales"]

    is_there = processes.wait_until(is_served, _FRESH_LIMIT_SECONDS, poll_seconds=1)
    count = sum(int(row["transaction_count"]) for row in served)
    amount = sum(Decimal(row["total_amount"]) for row in served)
    print(
        f"\nToday so far, answered by the speed layer: at {sold['until']} the shop had sold {sold['sales']:,} lines, ",
        end="",
    )
    print(f"{sold['amount']}; {time.monotonic() - began:.0f} s later the view has {count:,}, {amount}", flush=True)
    if served:
        _airflow(settings, "tallyclerk", "kpis", "--date", sold["date"], "--limit", "5")
    return is_there


def _kpis(settings: Settings, day: str) -> list[dict[str, str]]:
    """What the view answers for a day; [] where it has nothing."""
    command = [str(settings.root / ".venv/bin/airflow"), "tallyclerk", "kpis", "--date", day, "--limit", "1000000"]
    done = subprocess.run(
        [*command, "--output", "json"],
        env={**processes.base_environment(), **shell_environment(settings)},
        cwd=settings.root,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else []


def _airflow(settings: Settings, *arguments: str) -> None:
    _run(settings, [str(settings.root / ".venv" / "bin" / "airflow"), *arguments], quiet=False)


def _python(settings: Settings, *arguments: str, quiet: bool = False) -> str:
    return _run(settings, [str(settings.root / ".venv" / "bin" / "python"), *arguments], quiet=quiet)


def _run(settings: Settings, command: list[str], *, quiet: bool) -> str:
    done = subprocess.run(
        command,
        env={**processes.base_environment(), **shell_environment(settings)},
        cwd=settings.root,
        stdout=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ToolMissingError(f"{' '.join(command)} failed with exit code {done.returncode}")
    return done.stdout or ""
