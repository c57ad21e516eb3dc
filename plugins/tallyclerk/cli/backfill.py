"""``airflow dags backfill``: create a backfill as Airflow 3 does, then wait for it as Airflow 2 did."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping

from airflow.utils.session import create_session
from sqlalchemy.exc import OperationalError

from tallyclerk.cli import backfill_runs
from tallyclerk.cli.backfill_plan import BackfillPlan, PlannedRun, make_plan
from tallyclerk.cli.backfill_request import BackfillRequest, Reprocess
from tallyclerk.cli.backfill_watch import ProgressLine, Tally, watch
from tallyclerk.cli.console import EXIT_INTERRUPTED, EXIT_OK, command, complain, table
from tallyclerk.exceptions import SpecError, SpecErrors

_LISTED_RUNS = 20


@command
def backfill(args: Namespace) -> int:
    """Plan, confirm, create, wait, report. See ``airflow dags backfill --help`` for the exit codes."""
    request = BackfillRequest.from_arguments(args)
    with create_session() as session:
        plan = make_plan(request, session)
        active = backfill_runs.active_backfill(request.dag_id, session)
    obstacles = [*plan.obstacles, *([active] if active else [])]
    _print_plan(request, plan)
    if args.dry_run:
        print(table(("interval", "action", "state", "run_id"), [_row(run) for run in plan.runs]))
        print("\n".join(f"note: {obstacle}" for obstacle in obstacles) or "dry run: nothing was changed")
        return EXIT_OK
    backfill_id = None
    if plan.count("create") + plan.count("rerun"):
        if obstacles:
            raise SpecErrors(obstacles)
        _confirm(request, plan, assume_yes=args.yes)
        backfill_id = backfill_runs.create(request, plan.max_active_runs)
    with create_session() as session:
        intervals = {run.run_id: run.interval for run in make_plan(request, session).runs if run.run_id}
    return _finish(request, backfill_id, intervals, wait=not args.no_wait)


def _finish(request: BackfillRequest, backfill_id: int | None, intervals: Mapping[str, str], *, wait: bool) -> int:
    """Wait for every run of the range, also for one that somebody else has started, and report."""
    run_ids = list(intervals)

    def read_tally() -> Tally:
        return Tally.of(len(run_ids), backfill_runs.read_states(request.dag_id, run_ids))

    tally = read_tally()
    if backfill_id is None and tally.is_finished:
        print(f"nothing to do: each run of the range exists ({tally})")
    elif not wait:
        print(f"not waiting ({tally}); see {backfill_runs.dag_page(request.dag_id)}")
        return EXIT_OK
    else:
        try:
            tally = watch(
                read_tally,
                lambda: backfill_runs.hold_up(request.dag_id, backfill_id),
                ProgressLine(sys.stdout),
                transient_errors=(OperationalError,),
            )
        except KeyboardInterrupt:
            return _interrupted(request, backfill_id)
        with create_session() as session:
            backfill_runs.active_backfill(request.dag_id, session)  # so that the next one need not wait
    if tally.exit_code != EXIT_OK:
        _report_failures(request, intervals)
    elif backfill_id is not None:
        print(f"{tally.total} of {tally.total} runs succeeded")
    return tally.exit_code


def _print_plan(request: BackfillRequest, plan: BackfillPlan) -> None:
    first, last = sorted((plan.runs[0].interval, plan.runs[-1].interval))
    counts = [f"{plan.count(action)} to {action}" for action in ("create", "rerun", "keep") if plan.count(action)]
    print(f"{request.dag_id}, {first} to {last}: {', '.join(counts)}; {plan.max_active_runs} at once")
    if plan.unfinished_count:
        print(f"note: {plan.unfinished_count} intervals of the range are not over yet and are left out")


def _row(run: PlannedRun) -> tuple[str, ...]:
    return run.interval, run.action, run.state or "-", run.run_id or "-"


def _confirm(request: BackfillRequest, plan: BackfillPlan, *, assume_yes: bool) -> None:
    """Ask before runs that succeeded are run again.

    :raises SpecError: the answer is no, or there is nobody to ask.
    """
    count = sum(run.action == "rerun" and run.state == "success" for run in plan.runs)
    if request.reprocess is not Reprocess.COMPLETED or not count or assume_yes:
        return
    if not sys.stdin.isatty():
        raise SpecError(f"--reset-dagruns would run {count} runs again that have succeeded: add --yes to agree")
    if input(f"Run {count} runs again that have succeeded? [y/N] ").strip().lower() not in ("y", "yes"):
        raise SpecError("not agreed, nothing was changed")


def _interrupted(request: BackfillRequest, backfill_id: int | None) -> int:
    """Cancel what has not started, as stopping a backfill did in Airflow 2; a task at work is not killed."""
    if backfill_id is None:
        print("interrupted; the runs belong to somebody else and go on")
        return EXIT_INTERRUPTED
    print("interrupted: cancelling the runs that have not started …")
    backfill_runs.cancel(backfill_id)
    print(
        f"backfill {backfill_id} is cancelled: queued runs are marked failed, runs that had started go on to their end\n"
        f"carry on with: {request.command_line('--rerun-failed-tasks')}"
    )
    return EXIT_INTERRUPTED


def _report_failures(request: BackfillRequest, intervals: Mapping[str, str]) -> None:
    runs = backfill_runs.unsuccessful_runs(request.dag_id, list(intervals))
    listed = list(runs)[:_LISTED_RUNS]
    tasks = backfill_runs.failed_tasks(request.dag_id, listed)
    lines = [f"{len(runs)} of {len(intervals)} runs did not succeed:"]
    for run_id in listed:
        lines.append(f"  {intervals[run_id]}  {runs[run_id]}  {run_id}")
        lines += [f"    task {task.task_id} failed, log: {task.log_url}" for task in tasks if task.run_id == run_id]
    if len(runs) > len(listed):
        lines.append(f"  … and {len(runs) - len(listed)} more")
    lines.append(f"all tasks of a run: airflow tasks states-for-dag-run {request.dag_id} RUN_ID")
    lines.append(f"run them again:     {request.command_line('--rerun-failed-tasks')}")
    complain("\n".join(lines))
