"""`make run`: seed the shop, run yesterday's `retail_daily` through the scheduler, show what came out."""

from __future__ import annotations

import json
import subprocess
import time

from stack import processes
from stack.airflow_api import AirflowApi
from stack.errors import StackError, ToolMissingError
from stack.settings import Settings
from stack.shell import shell_environment

DAG = "retail_daily"
_DAG_LIMIT_SECONDS = 300
_RUN_LIMIT_SECONDS = 1800


def run_demo(settings: Settings) -> int:
    """Runs the demo against a stack that is up; 0 when the day's run succeeded.

    :raises StackError: the shop, the DAG or the API is not as it should be.
    """
    print("seeding the shop", flush=True)
    _python(settings, "-m", "include.shop", "seed")
    yesterday = json.loads(_python(settings, "-m", "include.shop", "days", quiet=True))["yesterday"]
    with AirflowApi(settings) as api:
        if not processes.wait_until(lambda: api.has_dag(DAG), _DAG_LIMIT_SECONDS):
            problems = "; ".join(api.import_errors()) or "the DAG processor has not read it"
            raise StackError(f"Airflow has no DAG {DAG}: {problems}")
        run_id = api.trigger(DAG, {"date": yesterday})
        api.unpause(DAG)
        print(f"triggered {DAG} for {yesterday}: {run_id}", flush=True)
        state = _follow(api, run_id)
    if state != "success":
        print(f"{DAG} for {yesterday}: {state}; the tasks' logs are in {settings.logs / 'airflow'}")
        return 1
    print(f"\nLedger of {yesterday}", flush=True)
    _airflow(settings, "tallyclerk", "ledger", "--date", yesterday)
    print(f"\nTop customers of {yesterday}", flush=True)
    _airflow(settings, "tallyclerk", "kpis", "--date", yesterday)
    return 0


def _follow(api: AirflowApi, run_id: str) -> str:
    """Prints each change of a task's state until the run is over; returns the run's state."""
    began = time.monotonic()
    seen: dict[str, str] = {}
    state = "queued"

    def is_over() -> bool:
        nonlocal state
        # the run first: what its tasks did before it ended is then still printed
        state = api.run_state(DAG, run_id)
        for task, task_state in sorted(api.task_states(DAG, run_id).items()):
            if seen.get(task) != task_state and task_state not in ("waiting", "scheduled", "queued"):
                print(f"  {time.monotonic() - began:5.0f} s  {task:<32} {task_state}", flush=True)
                seen[task] = task_state
        return state in ("success", "failed")

    if not processes.wait_until(is_over, _RUN_LIMIT_SECONDS, poll_seconds=1):
        raise StackError(f"{DAG} {run_id} is still {state} after {_RUN_LIMIT_SECONDS} s")
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
