"""One task, or a whole DAG, in this process by Airflow's own task runner: templates, context, asset events, XCom are real.

What the scheduler and the API server would answer is answered here, by the transport of the runner's own client.
The purpose is that of pytest-airflow, which no pytest since 5 can load.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import httpx
from airflow.sdk import DAG, BaseOperator, TaskInstanceState
from airflow.sdk.api.client import Client
from airflow.sdk.api.datamodels._generated import TaskInstance
from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor

RUN_AFTER = datetime(2026, 3, 11, tzinfo=UTC)
"""When a run without a logical date is due."""
_FAILURES = ("failed", "up_for_retry")


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What one attempt left.

    :param state: ``success``, ``skipped``, ``failed``, ``up_for_retry`` ...
    :param value: what ``execute`` returned, as XCom keeps it.
    :param events: the extra of each asset event by the asset's uri.
    :param error: what the attempt raised, None when it succeeded.
    """

    state: str
    value: Any
    events: dict[str, dict[str, Any]]
    error: BaseException | None


@dataclass(frozen=True, slots=True)
class DagRun:
    """What one run left.

    :param state: ``failed`` when a task did, else ``success``.
    :param tasks: each task's one attempt by id, in the order in which they ran; ``upstream_failed`` and ``skipped`` ones too.
    """

    state: str
    tasks: dict[str, TaskRun]


class RunTask(Protocol):
    """The type of the fixture ``run_task``."""

    def __call__(
        self, operator: BaseOperator, *, conf: Mapping[str, Any] | None = None, logical_date: datetime | None = None
    ) -> TaskRun: ...


class RunDag(Protocol):
    """The type of the fixture ``run_dag``."""

    def __call__(
        self, dag: DAG, *, conf: Mapping[str, Any] | None = None, logical_date: datetime | None = None
    ) -> DagRun: ...


def run_task_in_process(
    operator: BaseOperator, *, conf: Mapping[str, Any] | None = None, logical_date: datetime | None = None
) -> TaskRun:
    """One attempt, in a run with that ``conf``; a ``logical_date`` makes it a day's scheduled run.

    :raises BaseException: what the task raised, so that a test reads its own error; a skip or a deferral is a state.
    """
    if operator.get_dag() is None:
        operator.dag = DAG(f"test_{uuid4().hex[:8]}", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC))
    run = _attempt(operator, _Server(operator.dag_id, dict(conf or {}), logical_date))
    if run.error is not None and run.state in _FAILURES:
        raise run.error
    return run


def run_dag_in_process(
    dag: DAG, *, conf: Mapping[str, Any] | None = None, logical_date: datetime | None = None
) -> DagRun:
    """Every task of a DAG once, one after another, each with what those before it left in XCom; none is tried again.

    :raises NotImplementedError: a task is mapped or has another trigger rule than ``all_success``: that is the scheduler's
        work, for `tests/system`.
    """
    server = _Server(dag.dag_id, dict(conf or {}), logical_date)
    runs: dict[str, TaskRun] = {}
    for task in dag.topological_sort():
        if not isinstance(task, BaseOperator) or task.trigger_rule != "all_success":
            raise NotImplementedError(f"{task.node_id}: only plain tasks with the trigger rule all_success run here")
        before = {runs[name].state for name in task.upstream_task_ids}
        if before & {*_FAILURES, "upstream_failed"}:
            runs[task.task_id] = TaskRun("upstream_failed", None, {}, None)
        elif "skipped" in before:
            runs[task.task_id] = TaskRun("skipped", None, {}, None)
        else:
            runs[task.task_id] = _attempt(task, server)
    is_failed = any(run.state in _FAILURES for run in runs.values())
    return DagRun("failed" if is_failed else "success", runs)


def _attempt(operator: BaseOperator, server: _Server) -> TaskRun:
    instance = TaskInstance(
        id=uuid4(),
        task_id=operator.task_id,
        dag_id=operator.dag_id,
        run_id=server.run_id,
        try_number=1,
        dag_version_id=uuid4(),
    )
    client = Client(base_url=None, token="", dry_run=True, transport=httpx.MockTransport(server.answer))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        result = InProcessTestSupervisor.start(what=instance, task=operator, client=client)
    finally:
        signal.signal(signal.SIGTERM, handler)  # the runner makes it the task's `on_kill`
    events = {
        event["dest_asset_key"]["uri"]: event["extra"] for event in getattr(result.msg, "outlet_events", None) or []
    }
    value = server.xcoms.get((operator.task_id, "return_value"))
    return TaskRun(TaskInstanceState(result.state).value, value, events, result.error)


@dataclass(slots=True)
class _Server:
    """The Execution API as far as the tasks of one run ask it."""

    dag_id: str
    conf: dict[str, Any]
    logical_date: datetime | None
    run_id: str = field(default_factory=lambda: f"test__{uuid4().hex}")
    xcoms: dict[tuple[str, str], Any] = field(default_factory=dict)

    def answer(self, request: httpx.Request) -> httpx.Response:
        parts = request.url.path.strip("/").split("/")
        match request.method, parts:
            case "PATCH", ["task-instances", _, "run"]:
                return httpx.Response(200, json=self._context())
            case "GET", ["task-instances", _, "validate-inlets-and-outlets"]:
                return httpx.Response(200, json={"inactive_assets": []})
            case "POST", ["xcoms", _, _, task_id, key]:
                self.xcoms[task_id, key] = json.loads(request.content)
                return httpx.Response(201, json={"message": "kept"})
            case "GET", ["xcoms", _, _, task_id, key] if (task_id, key) in self.xcoms:
                return httpx.Response(200, json={"key": key, "value": self.xcoms[task_id, key]})
            case "PUT" | "PATCH", ["task-instances", *_]:
                return httpx.Response(204)
        return httpx.Response(404, json={"detail": {"reason": "not_found", "message": f"{request.method} {parts}"}})

    def _context(self) -> dict[str, Any]:
        day = self.logical_date
        return {
            "dag_run": {
                "dag_id": self.dag_id,
                "run_id": self.run_id,
                "logical_date": day and day.isoformat(),
                "data_interval_start": day and day.isoformat(),
                "data_interval_end": day and (day + timedelta(days=1)).isoformat(),
                "run_after": (day + timedelta(days=1) if day else RUN_AFTER).isoformat(),
                "start_date": RUN_AFTER.isoformat(),
                "end_date": None,
                "run_type": "scheduled" if day else "manual",
                "state": "running",
                "conf": self.conf,
                "consumed_asset_events": [],
                "partition_key": None,
            },
            "max_tries": 0,
            "should_retry": False,
        }
