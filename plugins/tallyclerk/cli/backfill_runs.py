"""The runs of a backfill in Airflow's database: create them, read their states, cancel them."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from airflow.api_fastapi.common.dagbag import resolve_run_on_latest_version
from airflow.configuration import conf
from airflow.exceptions import AirflowException
from airflow.models import DagModel, DagRun, TaskInstance
from airflow.models.backfill import Backfill, BackfillDagRun, ReprocessBehavior, _create_backfill
from airflow.sdk import timezone
from airflow.utils.cli import suppress_logs_and_warning
from airflow.utils.platform import getuser
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import func, select

from tallyclerk.cli.backfill_plan import scheduler_is_alive
from tallyclerk.cli.backfill_request import BackfillRequest
from tallyclerk.exceptions import SpecError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_UNFINISHED = (DagRunState.QUEUED, DagRunState.RUNNING)


class FailedTask(NamedTuple):
    """A task instance to look at."""

    run_id: str
    task_id: str
    log_url: str


def create(request: BackfillRequest, max_active_runs: int) -> int:
    """Create the backfill with Airflow's own function and return its id; the scheduler starts the runs.

    Airflow's two log lines for each run are left out.

    :raises SpecError: Airflow refuses, for example because another backfill of the DAG is active.
    """
    with create_session() as session:
        run_on_latest_version = resolve_run_on_latest_version(None, request.dag_id, session, fallback=True)
    created: list[Backfill] = []

    @suppress_logs_and_warning
    def create_quietly(_: Namespace) -> None:
        created.append(
            _create_backfill(
                dag_id=request.dag_id,
                from_date=request.start,
                to_date=request.end,
                max_active_runs=max_active_runs,
                reverse=request.newest_first,
                dag_run_conf=request.conf,
                triggering_user_name=getuser(),
                reprocess_behavior=ReprocessBehavior(request.reprocess),
                run_on_latest_version=run_on_latest_version,
            )
        )

    try:
        create_quietly(Namespace(verbose=False))
    except AirflowException as refusal:
        raise SpecError(f"Airflow refuses this backfill of {request.dag_id!r}: {refusal}") from None
    return created[0].id


def active_backfill(dag_id: str, session: Session) -> str | None:
    """Describe the backfill of this DAG that is still at work, if there is one.

    The scheduler marks a finished backfill as completed only every 30 s, and Airflow refuses a new one until then.
    One whose runs are all finished is therefore marked here, by the scheduler's own rule.
    """
    unfinished = None
    for backfill in session.scalars(
        select(Backfill).where(Backfill.dag_id == dag_id, Backfill.completed_at.is_(None)).with_for_update()
    ):
        states = Counter(session.scalars(select(DagRun.state).where(DagRun.backfill_id == backfill.id)))
        is_set_up = session.scalar(select(func.count()).where(BackfillDagRun.backfill_id == backfill.id))
        if is_set_up and not any(states[state] for state in _UNFINISHED):
            backfill.completed_at = timezone.utcnow()
            continue
        left = sum(states[state] for state in _UNFINISHED)
        unfinished = (
            f"backfill {backfill.id} of {dag_id!r} is at work ({left} of {states.total()} runs left): "
            f"wait for it, or cancel it at {dag_page(dag_id)}"
        )
    return unfinished


def read_states(dag_id: str, run_ids: Sequence[str]) -> Counter[str]:
    """Count the runs by state. A run that was deleted is missing from the counts."""
    with create_session() as session:
        rows = session.execute(
            select(DagRun.state, func.count())
            .where(DagRun.dag_id == dag_id, DagRun.run_id.in_(run_ids))
            .group_by(DagRun.state)
        )
        return Counter({str(state): count for state, count in rows})


def hold_up(dag_id: str, backfill_id: int | None) -> str | None:
    """Say why the runs do not move on, if that can be known."""
    with create_session() as session:
        model = DagModel.get_dagmodel(dag_id, session=session)
        backfill = session.get(Backfill, backfill_id) if backfill_id is not None else None
        if model is not None and model.is_paused:
            return f"the DAG is paused: airflow dags unpause {dag_id}"
        if backfill is not None and backfill.is_paused:
            return f"the backfill is paused: resume it at {dag_page(dag_id)}"
        return None if scheduler_is_alive(session) else "no scheduler is alive: start it"


def unsuccessful_runs(dag_id: str, run_ids: Sequence[str]) -> dict[str, str]:
    """Return run id and state of the runs that did not succeed, in the order given; a deleted run is "deleted"."""
    with create_session() as session:
        rows = session.execute(
            select(DagRun.run_id, DagRun.state).where(DagRun.dag_id == dag_id, DagRun.run_id.in_(run_ids))
        )
        states = {run_id: str(state) for run_id, state in rows}
    found = {run_id: states.get(run_id, "deleted") for run_id in run_ids}
    return {run_id: state for run_id, state in found.items() if state != DagRunState.SUCCESS}


def failed_tasks(dag_id: str, run_ids: Sequence[str]) -> list[FailedTask]:
    """Return the task instances that failed in these runs, those first that failed first."""
    with create_session() as session:
        instances = session.scalars(
            select(TaskInstance)
            .where(
                TaskInstance.dag_id == dag_id,
                TaskInstance.run_id.in_(run_ids),
                TaskInstance.state == TaskInstanceState.FAILED,
            )
            .order_by(TaskInstance.end_date)
        )
        return [FailedTask(ti.run_id, ti.task_id, ti.log_url) for ti in instances]


def cancel(backfill_id: int) -> None:
    """Cancel as the button in Airflow's UI does: queued runs fail, runs that have started go on to their end."""
    from airflow.api_fastapi.core_api.routes.public.backfills import cancel_backfill

    with create_session() as session:
        backfill = session.get(Backfill, backfill_id)
        if backfill is not None and backfill.completed_at is None:
            cancel_backfill(backfill_id, session)


def dag_page(dag_id: str) -> str:
    """Return the address of the DAG's backfills in Airflow's UI."""
    return f"{conf.get('api', 'base_url', fallback='http://localhost:8080').rstrip('/')}/dags/{dag_id}/backfills"
