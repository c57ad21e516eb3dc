"""What Flink's REST interface says of a job, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import FlinkRefusedError, ServiceUnavailableError, SpecError

if TYPE_CHECKING:
    import httpx

RUNNING, FAILED, CANCELED, FINISHED = "RUNNING", "FAILED", "CANCELED", "FINISHED"
OVER = frozenset({FAILED, CANCELED, FINISHED})
"""States that a job never leaves."""
STATE_MISFITS = ("Cannot map checkpoint/savepoint state", "StateMigrationException", "must not be incompatible with")
STATE_MISSING = ("Cannot find checkpoint or savepoint", "Cannot find meta data file", "FileNotFoundException")
DUPLICATE = "DuplicateJobSubmissionException"
_PASSING = ("TimeoutException", "RejectedExecutionException", "ConnectException", "LeaderNotAvailable")
_CLASS = re.compile(r"^(?:[\w$]+\.)+[\w$]+: ")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A completed checkpoint or savepoint. ``number`` grows within a job, also where it goes on from an earlier one's."""

    number: int
    path: str
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class JobStatus:
    """One look at a job.

    :param state: Flink's word. It says RUNNING also of a job none of whose tasks runs.
    :param tasks_running, tasks_total: of all its tasks.
    :param now: the JobManager's clock.
    :param newest: the newest completed checkpoint or savepoint of this job since it was submitted; None while there is none.
    :param restarts: how often Flink itself has restarted it since it was submitted.
    """

    state: str
    tasks_running: int
    tasks_total: int
    now: datetime
    newest: Checkpoint | None
    restarts: int

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @property
    def checkpoint_age(self) -> timedelta | None:
        return None if self.newest is None else max(self.now - self.newest.completed_at, timedelta(0))

    @property
    def is_running(self) -> bool:
        """Every task runs: Flink's own word says so already while tasks wait for a slot."""
        return self.state == RUNNING and 0 < self.tasks_total == self.tasks_running

    def is_healthy(self, max_checkpoint_age_seconds: float) -> bool:
        """Every task runs, and what was done lately is safe in a checkpoint."""
        age = self.checkpoint_age
        return self.is_running and age is not None and age.total_seconds() <= max_checkpoint_age_seconds

    def __str__(self) -> str:
        age = self.checkpoint_age
        told = "no checkpoint yet" if age is None else f"newest checkpoint {age.total_seconds():.0f} s old"
        return f"{self.state}, {self.tasks_running} of {self.tasks_total} tasks run, {told}, restarted {self.restarts} times"


def status_paths(job_id: str) -> tuple[str, str, str]:
    """What has to be asked for a :class:`JobStatus`, in the order of the parameters of :func:`job_status`."""
    return f"/jobs/{job_id}", f"/jobs/{job_id}/checkpoints", f"/jobs/{job_id}/metrics?get=numRestarts"


def job_status(
    job: Mapping[str, Any] | None, checkpoints: Mapping[str, Any] | None, metrics: Sequence[Mapping[str, Any]] | None
) -> JobStatus | None:
    """None when the JobManager knows no such job."""
    if job is None:
        return None
    tasks = [vertex["tasks"] for vertex in job["vertices"]]
    latest = (checkpoints or {}).get("latest") or {}
    return JobStatus(
        state=job["state"],
        tasks_running=sum(each.get(RUNNING, 0) for each in tasks),
        tasks_total=sum(sum(each.values()) for each in tasks),
        now=_moment(job["now"]),
        newest=max(
            (found for kind in ("completed", "savepoint") if (found := _checkpoint(latest.get(kind)))),
            key=lambda each: each.number,
            default=None,
        ),
        # metrics are fetched when they are asked for: the first answer may be empty
        restarts=int(float(metrics[0]["value"])) if metrics else 0,
    )


def read(answer: httpx.Response, *, address: str) -> Any:
    """The JSON answer; None when what was asked for does not exist.

    :raises ServiceUnavailableError: an error of the server.
    :raises FlinkRefusedError: it says no, and why.
    :raises SpecError: the login is refused.
    """
    if answer.status_code == 404:
        return None
    if answer.status_code in (401, 403):
        raise SpecError(f"Flink at {address} refuses the connection's login; correct it.")
    if answer.status_code >= 400:
        told = _told(answer)
        is_about_the_program = "ProgramInvocationException" in told or answer.status_code < 500
        if not is_about_the_program or any(mark in told for mark in _PASSING):
            raise ServiceUnavailableError(service="Flink", address=address, cause=root_cause(told))
        raise FlinkRefusedError(address=address, cause=root_cause(told), told=told)
    return answer.json() if answer.content else None


def root_cause(trace: str) -> str:
    """The last ``Caused by`` of a Java stack trace; a cause before it that holds its words too often knows the line.

    A trace without causes tells its first line.
    """
    lines = [line.strip().removeprefix("<Exception on server side:") for line in trace.splitlines()]
    lines = [line for line in lines if line and line != "Internal server error."]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    if not causes:
        return lines[0][:500] if lines else ""
    last = _CLASS.sub("", causes[-1])
    fuller = [
        each
        for each in (_CLASS.sub("", cause) for cause in causes)
        if each.endswith(last) and each.startswith("From line")
    ]
    return (fuller[-1] if fuller else last)[:500].rstrip(".")


def _told(answer: httpx.Response) -> str:
    try:
        errors = answer.json().get("errors", [])
    except ValueError:
        errors = []
    return "\n".join(errors) or f"HTTP {answer.status_code}"


def _checkpoint(found: Mapping[str, Any] | None) -> Checkpoint | None:
    # a job that finishes deletes its checkpoints, and still tells of them
    if not found or not found.get("external_path") or found.get("discarded"):
        return None
    return Checkpoint(found["id"], found["external_path"], _moment(found["latest_ack_timestamp"]))


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
