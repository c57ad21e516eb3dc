"""A Flink session cluster by the JobManager's REST interface."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from tallyclerk.exceptions import (
    FlinkRefusedError,
    FlinkSqlError,
    FlinkStateLostError,
    ServiceUnavailableError,
    StateDoesNotFitError,
)
from tallyclerk.hooks.connections import http_address, tls_context
from tallyclerk.hooks.flink_reading import last_failure_of
from tallyclerk.hooks.flink_status import (
    DUPLICATE,
    STATE_MISFITS,
    STATE_MISSING,
    JobStatus,
    job_status,
    read,
    root_cause,
    status_paths,
)

if TYPE_CHECKING:
    import httpx

_EXTRA_KEYS = ("ca_file",)
_SQL_DRIVER = "org.apache.flink.table.runtime.application.SqlDriver"
_SUBMIT_SECONDS = 300
"""A submission is answered when its SQL is planned: some seconds, but most of a minute on a JobManager that has just started."""


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job of the JobManager's list."""

    job_id: str
    name: str
    state: str
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Savepoint:
    """What came of a stop: ``path``, or ``failure`` when it was not taken; neither while it is under way."""

    path: str = ""
    failure: str = ""


class FlinkHook(BaseHook):
    """One method per request. Read from the connection: ``host``, ``port``, ``schema`` (``http`` unless said otherwise),
    ``login`` and ``password``, and of the extra ``ca_file``.

    :param patience_seconds: how long an answer, or the next piece of it, is waited for; a submission's longer.
    :raises ServiceUnavailableError: (every method) no answer, or an error of the server.
    :raises SpecError: (every method) the login is refused, or the request is.
    """

    conn_name_attr = "flink_conn_id"
    default_conn_name = "flink_default"
    conn_type = "flink"
    hook_name = "Flink (Tallyclerk)"

    def __init__(self, flink_conn_id: str = default_conn_name, *, patience_seconds: float = 30) -> None:
        super().__init__()
        self.flink_conn_id = flink_conn_id
        self.patience_seconds = patience_seconds

    @cached_property
    def url(self) -> str:
        """:raises SpecError: the connection has no host, or an extra that is not known."""
        return http_address(self.get_connection(self.flink_conn_id), _EXTRA_KEYS, whose="the JobManager's")

    def overview(self) -> dict[str, Any]:
        """TaskManagers, slots and jobs, by Flink's own names."""
        found: dict[str, Any] = self._call("GET", "/overview")
        return found

    def jobs(self) -> list[JobSummary]:
        """Every job that the JobManager knows, those that are over too for a while."""
        found = self._call("GET", "/jobs/overview")["jobs"]
        return [
            JobSummary(each["jid"], each["name"], each["state"], datetime.fromtimestamp(each["start-time"] / 1000, UTC))
            for each in found
        ]

    def uploaded_jar(self, path: str | Path) -> str:
        """The id of a jar on the JobManager, uploaded unless one of the same content is there."""
        content = Path(path).read_bytes()
        name = f"{hashlib.sha256(content).hexdigest()[:16]}-{Path(path).name}"
        present = [each["id"] for each in self._call("GET", "/jars")["files"] if each["name"] == name]
        if present:
            return str(present[0])
        files = {"jarfile": (name, content, "application/java-archive")}
        return Path(self._call("POST", "/jars/upload", files=files)["filename"]).name

    def plan(self, jar: str, script: str, *, job: str) -> dict[str, Any]:
        """What Flink would run for a script; nothing is submitted.

        :param job: for messages. :raises FlinkSqlError: it cannot be planned.
        """
        try:
            found = self._call("POST", f"/jars/{jar}/plan", json=_program(script), seconds=_SUBMIT_SECONDS)
        except FlinkRefusedError as refusal:
            raise FlinkSqlError(job=job, cause=refusal.cause) from refusal
        return dict(self._there(found, f"the jar {jar}")["plan"])

    def run(self, jar: str, script: str, *, job: str, job_id: str, start: str = "") -> bool:
        """Submit. Repeating it is safe: one ``job_id`` is one job.

        :param job: for messages. :param job_id: 32 hexadecimal digits.
        :param start: savepoint or checkpoint to go on from; it is left where it is.
        :return: False when this JobManager knows the id already, running or over.
        :raises FlinkSqlError: the script cannot be planned.
        :raises StateDoesNotFitError: ``start`` does not fit it, as far as Flink sees before the tasks begin.
        :raises FlinkStateLostError: ``start`` cannot be read.
        """
        body = {**_program(script), "jobId": job_id}
        if start:
            body |= {"savepointPath": start, "allowNonRestoredState": False, "claimMode": "NO_CLAIM"}
        try:
            answer = self._call("POST", f"/jars/{jar}/run", json=body, seconds=_SUBMIT_SECONDS)
        except FlinkRefusedError as refusal:
            if refusal.says(DUPLICATE):
                return False
            if refusal.says(*STATE_MISFITS):
                raise StateDoesNotFitError(job=job, reason=refusal.cause, goes_on="") from refusal
            if start and refusal.says(*STATE_MISSING):
                raise FlinkStateLostError(job=job, path=start, cause=refusal.cause) from refusal
            raise FlinkSqlError(job=job, cause=refusal.cause) from refusal
        self._there(answer, f"the jar {jar}")
        return True

    def status(self, job_id: str) -> JobStatus | None:
        """None when the JobManager knows no such job: it never came, was over long ago, or the JobManager was replaced.

        Flink answers from a copy that may be 3 s old.
        """
        return job_status(*(self._call("GET", path) for path in status_paths(job_id)))

    def state(self, job_id: str) -> str | None:
        """Flink's word for where the job is now, not 3 s ago; None as for :meth:`status`."""
        return next((job.state for job in self.jobs() if job.job_id == job_id), None)

    def last_failure(self, job_id: str) -> str:
        """Why the job or a task of it failed last, with its stack trace; empty when nothing did."""
        return last_failure_of(self._call("GET", f"/jobs/{job_id}/exceptions?maxExceptions=1"))

    def stop(self, job_id: str, trigger_id: str) -> None:
        """Ask for a savepoint and the job's end right behind it; nothing is drained. The same ``trigger_id`` is the same request."""
        body = {"drain": False, "formatType": "CANONICAL", "triggerId": trigger_id}
        self._call("POST", f"/jobs/{job_id}/stop", json=body)

    def savepoint(self, job_id: str, trigger_id: str) -> Savepoint:
        """What came of :meth:`stop`. Known for some minutes after its end."""
        found = self._call("GET", f"/jobs/{job_id}/savepoints/{trigger_id}")
        if found is None:
            return Savepoint(failure="the JobManager knows nothing of it")
        operation = found.get("operation") or {}
        failure = (operation.get("failure-cause") or {}).get("stack-trace", "")
        return Savepoint(path=operation.get("location") or "", failure=root_cause(failure))

    def cancel(self, job_id: str) -> None:
        """End the job without a savepoint; its checkpoints stay. :meth:`status` tells when it is over."""
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    @cached_property
    def client_options(self) -> dict[str, Any]:
        """Of an ``httpx`` client, plain or asynchronous."""
        connection = self.get_connection(self.flink_conn_id)
        return {
            "base_url": self.url,
            "auth": (connection.login, connection.password or "") if connection.login else None,
            "verify": tls_context(connection.extra_dejson.get("ca_file")),
            "timeout": self.patience_seconds,
            "trust_env": False,
        }

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        return httpx.Client(**self.client_options)

    def _call(self, method: str, path: str, *, seconds: float = 0, **what: Any) -> Any:
        import httpx

        limit = httpx.Timeout(seconds or self.patience_seconds, connect=min(10, self.patience_seconds))
        try:
            answer = self._client.request(method, path, timeout=limit, **what)
        except httpx.TransportError as error:
            cause = str(error) or type(error).__name__
            raise ServiceUnavailableError(service="Flink", address=self.url, cause=cause) from error
        return read(answer, address=self.url)

    def _there(self, answer: Any, what: str) -> Any:
        if answer is None:
            raise ServiceUnavailableError(service="Flink", address=self.url, cause=f"{what} is gone")
        return answer


def _program(script: str) -> dict[str, Any]:
    # the text itself: no file has to be where the JobManager sees it
    return {"entryClass": _SQL_DRIVER, "programArgsList": ["--script", script]}
