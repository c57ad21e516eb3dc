"""Which runs a backfill would create or run again, and what stands in its way.

This module and ``backfill_runs`` are the only ones that touch ``airflow.models.backfill``, which Airflow calls internal.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from airflow.exceptions import AirflowException
from airflow.jobs.job import most_recent_job
from airflow.models import DagModel
from airflow.models.backfill import (
    ReprocessBehavior,
    _get_dag_run_no_create_reason,
    _get_info_list,
    _get_latest_dag_run_row_query,
    _validate_backfill_params,
)
from airflow.models.serialized_dag import SerializedDagModel
from airflow.sdk import timezone
from airflow.utils.types import DagRunType
from sqlalchemy import select

from tallyclerk.cli.backfill_request import BackfillRequest
from tallyclerk.exceptions import SpecError

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG
    from airflow.timetables.base import DagRunInfo
    from sqlalchemy.orm import Session


class PlannedRun(NamedTuple):
    """One interval of the range. ``action`` is create, rerun or keep; the rest is about the run that exists."""

    interval: str
    action: str
    run_id: str | None = None
    state: str | None = None


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """What a request comes to.

    :param runs: in the order in which they would start.
    :param unfinished_count: intervals of the range that are left out because they are not over.
    :param max_active_runs: as asked for, else the DAG's own limit, as in Airflow 2 (Airflow 3 alone would take 10).
    :param obstacles: why it cannot start now, each with its remedy.
    """

    runs: tuple[PlannedRun, ...]
    unfinished_count: int
    max_active_runs: int
    obstacles: tuple[str, ...]

    def count(self, action: str) -> int:
        """Return how many runs have this action."""
        return sum(run.action == action for run in self.runs)


def make_plan(request: BackfillRequest, session: Session) -> BackfillPlan:
    """Compare the request with what Airflow has; changes nothing.

    :raises SpecError: the DAG is not known or cannot be backfilled, or no interval of the range is over.
    """
    model, dag = _find_dag(request.dag_id, session)
    _check_dag(request, dag)
    infos = _get_info_list(dag=dag, from_date=request.start, to_date=request.end, reverse=request.newest_first)
    scheduled_count = sum(1 for _ in dag.iter_dagrun_infos_between(request.start, request.end))
    if not infos:
        raise SpecError(
            f"no interval of {request.dag_id!r} from {request.start.isoformat()} to {request.end.isoformat()} is over yet: "
            "choose earlier dates"
            if scheduled_count
            else f"the schedule of {request.dag_id!r} has no logical date from {request.start.isoformat()} "
            f"to {request.end.isoformat()}: a bare end date is its midnight; widen the range"
        )
    return BackfillPlan(
        runs=tuple(_plan_run(request, info, session) for info in infos),
        unfinished_count=scheduled_count - len(infos),
        max_active_runs=request.max_active_runs or model.max_active_runs or 1,
        obstacles=tuple(_obstacles(model, session)),
    )


def scheduler_is_alive(session: Session) -> bool:
    """Return whether a scheduler has sent a heartbeat lately."""
    job = most_recent_job("SchedulerJob", session=session)
    return job is not None and job.is_alive()


def _find_dag(dag_id: str, session: Session) -> tuple[DagModel, SerializedDAG]:
    model = DagModel.get_dagmodel(dag_id, session=session)
    dag = SerializedDagModel.get_dag(dag_id, session=session)
    if model is not None and dag is not None and not model.is_stale:
        return model, dag
    known = session.scalars(select(DagModel.dag_id).where(DagModel.is_stale.is_(False))).all()
    near = difflib.get_close_matches(dag_id, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see `airflow dags list` and `airflow dags list-import-errors`"
    raise SpecError(f"there is no DAG {dag_id!r} now: {hint}")


def _check_dag(request: BackfillRequest, dag: SerializedDAG) -> None:
    if not dag.timetable.periodic:
        raise SpecError(
            f"{request.dag_id!r} has no schedule with intervals to fill (schedule: {dag.timetable.summary}): "
            f"use `airflow dags trigger {request.dag_id}`"
        )
    if dag.allowed_run_types is not None and DagRunType.BACKFILL_JOB not in dag.allowed_run_types:
        raise SpecError(f"{request.dag_id!r} does not allow backfills (its allowed_run_types)")
    if request.start >= timezone.utcnow():
        raise SpecError(f"{request.start.isoformat()} is in the future: choose dates whose intervals are over")
    try:
        _validate_backfill_params(
            dag, request.newest_first, request.start, request.end, ReprocessBehavior(request.reprocess), request.conf
        )
    except AirflowException as refusal:  # each of Airflow's refusals here is a subclass without a common name
        raise SpecError(f"Airflow refuses this backfill of {request.dag_id!r}: {refusal}") from None


def _obstacles(model: DagModel, session: Session) -> list[str]:
    obstacles = []
    if model.has_import_errors:
        obstacles.append(f"the file of {model.dag_id!r} has import errors: see `airflow dags list-import-errors`")
    if model.is_paused:
        obstacles.append(
            f"{model.dag_id!r} is paused, its runs would wait for ever: `airflow dags unpause {model.dag_id}` first"
        )
    if not scheduler_is_alive(session):
        obstacles.append("no scheduler is alive, nothing would run: start it (`airflow scheduler`)")
    return obstacles


def _plan_run(request: BackfillRequest, info: DagRunInfo, session: Session) -> PlannedRun:
    """Decide as Airflow's ``_create_backfill`` will."""
    interval = info.logical_date.isoformat() if info.logical_date else str(info.partition_key)
    run = session.scalar(_get_latest_dag_run_row_query(dag_id=request.dag_id, info=info))
    if run is None:
        return PlannedRun(interval, "create")
    kept = _get_dag_run_no_create_reason(run, ReprocessBehavior(request.reprocess))
    return PlannedRun(interval, "keep" if kept else "rerun", run.run_id, run.state)
