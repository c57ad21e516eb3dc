"""`make run`: seed the shop, let the scheduler run yesterday's `retail_daily`, follow the customers' changes, show what came out.

Unpausing a daily DAG makes the scheduler create yesterday's run by itself: the demo follows that one, and triggers a run of
its own only where there is none to follow.
"""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta

from stack import processes
from stack.airflow_api import AirflowApi
from stack.errors import StackError, ToolMissingError
from stack.settings import Settings
from stack.shell import shell_environment

DAILY = "retail_daily"
CHANGES = "retail_customers_cdc"
_DAG_LIMIT_SECONDS = 300
_SCHEDULED_LIMIT_SECONDS = 60
_RUN_LIMIT_SECONDS = 1800


def run_demo(settings: Settings) -> int:
    """Runs the demo against a stack that is up; 0 when every DAG's run succeeded.

    :raises StackError: the shop, a DAG or the API is not as it should be.
    """
    print("seeding the shop", flush=True)
    _python(settings, "-m", "include.shop", "seed")
    yesterday = json.loads(_python(settings, "-m", "include.shop", "days", quiet=True))["yesterday"]
    with AirflowApi(settings) as api:
        states = {DAILY: run_dag(api, DAILY, yesterday)}
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
    print(f"\nTop customers of {yesterday}", flush=True)
    _airflow(settings, "tallyclerk", "kpis", "--date", yesterday, "--limit", "10")
    print("\nNewest changes of customers", flush=True)
    _airflow(settings, "tallyclerk", "ledger", "--dataset", "customers", "--limit", "3")
    return 0


def run_dag(api: AirflowApi, dag_id: str, day: str | None = None) -> str:
    """Sees one run of a DAG to its end, printing each step; returns the run's state.

    :param day: the run's logical date; None is now, for a DAG that takes up where its last run ended.
    """
    if not processes.wait_until(lambda: api.has_dag(dag_id), _DAG_LIMIT_SECONDS):
        problems = "; ".join(api.import_errors()) or "the DAG processor has not read it"
        raise StackError(f"Airflow has no DAG {dag_id}: {problems}")
    api.unpause(dag_id)
    run_id = _scheduled(api, dag_id, day) if day else None
    if run_id is None:
        run_id = api.trigger(dag_id, {"date": day} if day else {})
        print(f"triggered {dag_id}: {run_id}", flush=True)
    elif api.run_state(dag_id, run_id) == "success":
        print(f"{dag_id}: {run_id} has succeeded already; run it again with ./airflow dags trigger {dag_id}")
        return "success"
    else:
        print(f"following {dag_id}: {run_id}", flush=True)
    return _follow(api, dag_id, run_id)


def _scheduled(api: AirflowApi, dag_id: str, day: str) -> str | None:
    """The scheduler's own run, once it has made it; None when it will make none, or when that one has failed."""
    found: str | None = None

    def is_there() -> bool:
        nonlocal found
        found = api.scheduled_run(dag_id, day)
        return found is not None

    # with SHOP_TODAY set, the shop's yesterday may be a day that the scheduler is not at
    is_due = day == str(datetime.now(UTC).date() - timedelta(days=1))
    processes.wait_until(is_there, _SCHEDULED_LIMIT_SECONDS if is_due else 0, poll_seconds=1)
    return None if found and api.run_state(dag_id, found) == "failed" else found


def _follow(api: AirflowApi, dag_id: str, run_id: str) -> str:
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
        return state in ("success", "failed")

    if not processes.wait_until(is_over, _RUN_LIMIT_SECONDS, poll_seconds=1):
        raise StackError(f"{dag_id} {run_id} is still {state} after {_RUN_LIMIT_SECONDS} s")
    return state


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
