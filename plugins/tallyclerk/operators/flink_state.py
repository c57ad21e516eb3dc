"""From where a Flink job can go on: a savepoint taken now, or the newest checkpoint there is."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from tallyclerk.exceptions import FlinkJobNotReadyError

if TYPE_CHECKING:
    from logging import Logger

    from tallyclerk.hooks.flink import FlinkHook
    from tallyclerk.hooks.flink_status import JobStatus
    from tallyclerk.sinks.cassandra_flink_jobs import Generation

_ATTEMPTS = 5
_POLL_SECONDS = 0.5
_CHECKPOINT = re.compile(r"(.*/)chk-(\d+)/?")


def stop_with_savepoint(hook: FlinkHook, row: Generation, *, log: Logger | Any, limit_seconds: float) -> str:
    """End a generation; the savepoint's path, or "" when it could make none, so that its newest checkpoint is what there is.

    Repeated, it finds the savepoint of the first call: the request's id is the job's and the attempt's.

    :raises FlinkJobNotReadyError: the job is well and the savepoint fails all the same, or takes too long; it runs on.
    """
    failure = ""
    for attempt in range(_ATTEMPTS):
        status = hook.status(row.job_id)
        if status is None:
            return ""
        trigger_id = hashlib.sha256(f"{row.job_id}\n{attempt}".encode()).hexdigest()[:32]
        hook.stop(row.job_id, trigger_id)
        path, failure = _answer(hook, row, trigger_id, limit_seconds)
        if path:
            return path
        status = hook.status(row.job_id)
        if status is None or status.is_over:
            return _newest(status)
        if status.tasks_running < status.tasks_total:
            log.warning(
                "%s: cannot make a savepoint (%s); cancelled, its newest checkpoint is kept", row.job_id, failure
            )
            hook.cancel(row.job_id)
            return _newest(wait_until_over(hook, row.job_id, limit_seconds))
        log.warning("%s: savepoint %d failed: %s", row.job_id, attempt + 1, failure)
    raise FlinkJobNotReadyError(job=row.job_id, found=f"a savepoint fails: {failure}", limit_seconds=limit_seconds)


def wait_until_over(hook: FlinkHook, job_id: str, limit_seconds: float) -> JobStatus | None:
    """The last status; None when the JobManager has forgotten it. :raises FlinkJobNotReadyError: it does not end."""
    deadline = time.monotonic() + limit_seconds
    while (status := hook.status(job_id)) is not None and not status.is_over:
        if time.monotonic() > deadline:
            raise FlinkJobNotReadyError(job=job_id, found=f"it does not end: {status}", limit_seconds=limit_seconds)
        time.sleep(_POLL_SECONDS)
    return status


def newest_visible(path: str) -> str:
    """A checkpoint, or a newer one beside it where this machine sees Flink's folder.

    Flink keeps only the newest few. Whoever was not polled for longer than these last would else go on from one that is gone,
    and one that writes appending topics would write again what came after it.
    """
    match, parts = _CHECKPOINT.fullmatch(path), urlsplit(path)
    if match is None or parts.scheme != "file":
        return path
    folder = Path(unquote(parts.path)).parent
    complete = [int(each.parent.name.removeprefix("chk-")) for each in folder.glob("chk-*/_metadata")]
    return f"{match[1]}chk-{max(complete)}" if complete else path


def _answer(hook: FlinkHook, row: Generation, trigger_id: str, limit_seconds: float) -> tuple[str, str]:
    """Path and failure, one of them empty."""
    deadline = time.monotonic() + limit_seconds
    while True:
        found = hook.savepoint(row.job_id, trigger_id)
        if found.path or found.failure:
            return found.path, found.failure
        if time.monotonic() > deadline:
            raise FlinkJobNotReadyError(
                job=row.job_id, found="its savepoint takes too long", limit_seconds=limit_seconds
            )
        time.sleep(_POLL_SECONDS)


def _newest(status: JobStatus | None) -> str:
    return status.newest.path if status is not None and status.newest is not None else ""
