"""Watch a Flink job: keep its newest checkpoint, and tell when it needs a hand; or wait until it is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from tallyclerk.exceptions import ServiceUnavailableError

if TYPE_CHECKING:
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
    from tallyclerk.hooks.flink_status import JobStatus
    from tallyclerk.sinks.cassandra_flink_jobs import FlinkJobsTable

_MISSING_LOOKS = 2
"""So often in a row the JobManager must not know a job before it is taken for lost."""


class FlinkJobTrigger(BaseTrigger):
    """Fires once, when there is something to do or nothing more to watch; ``status`` of its event says which:

    ``healthy`` (only without ``until``), ``over`` (the watch), ``gone`` (the job is over, or lost with its JobManager),
    ``misfit`` (its tasks cannot read the state they were given), ``unready`` (not well for ``limit_seconds``), ``away`` (no
    answer for that long).

    Each newer checkpoint's path is written into the table of Flink jobs as soon as it is seen; without Cassandra the watch
    goes on and writes at a later look. Two of them beside each other do no harm: the newer checkpoint stays.

    :param job, generation, job_id: what is watched. :param keyspace: of the table.
    :param until: ISO 8601 with an offset, the end of the watch; "" to end it once the job is well.
    :param limit_seconds: how long the job may be unwell, the JobManager away, in one piece.
    """

    def __init__(
        self,
        *,
        job: str,
        generation: int,
        job_id: str,
        keyspace: str,
        until: str = "",
        poll_interval_seconds: float = 10,
        max_checkpoint_age_seconds: float = 120,
        limit_seconds: float = 600,
        flink_conn_id: str = "flink_default",
        cassandra_conn_id: str = "cassandra_default",
    ) -> None:
        super().__init__()
        self.job, self.generation, self.job_id, self.keyspace = job, generation, job_id, keyspace
        self.until, self.poll_interval_seconds = until, poll_interval_seconds
        self.max_checkpoint_age_seconds, self.limit_seconds = max_checkpoint_age_seconds, limit_seconds
        self.flink_conn_id, self.cassandra_conn_id = flink_conn_id, cassandra_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        facts = ("job", "generation", "job_id", "keyspace", "until", "poll_interval_seconds")
        limits = ("max_checkpoint_age_seconds", "limit_seconds", "flink_conn_id", "cassandra_conn_id")
        return (
            "tallyclerk.triggers.flink_job.FlinkJobTrigger",
            {name: getattr(self, name) for name in (*facts, *limits)},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        import httpx
        from asgiref.sync import sync_to_async

        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.hooks.flink import FlinkHook
        from tallyclerk.sinks.cassandra_client import Backoff

        flink, cassandra = (
            FlinkHook(self.flink_conn_id),
            CassandraClusterHook(self.cassandra_conn_id, backoff=Backoff(0.1)),
        )
        # connections are asked of the triggerer, in the thread that may
        await sync_to_async(lambda: (flink.client_options, cassandra.hosts))()
        keeper = _Keeper(self, cassandra)
        try:
            async with httpx.AsyncClient(**flink.client_options) as client:
                status, found = await self._watch(client, keeper)
        finally:
            await asyncio.to_thread(cassandra.close)
        message = f"generation {self.generation} of {self.job}: {found}"
        yield TriggerEvent({"status": status, "message": message, "checkpoint": keeper.kept})

    async def _watch(self, client: Any, keeper: _Keeper) -> tuple[str, str]:
        """The event's status, and what was found."""
        from tallyclerk.hooks.flink_reading import async_status

        until = datetime.fromisoformat(self.until) if self.until else None
        unwell_since: float | None
        answered_at, unwell_since, missing = time.monotonic(), None, 0
        while True:
            status: JobStatus | None = None
            try:
                status = await async_status(client, self.job_id)
            except ServiceUnavailableError as error:
                missing, unwell_since, found = 0, None, str(error)
                if time.monotonic() - answered_at > self.limit_seconds:
                    return "away", found
            else:
                answered_at = time.monotonic()
                missing = missing + 1 if status is None else 0
                found = str(status or "unknown to the JobManager")
            if missing >= _MISSING_LOOKS or (status is not None and status.is_over):
                return "gone", found
            if status is not None:
                is_well = status.is_healthy(self.max_checkpoint_age_seconds)
                is_kept = await keeper.keep(status, is_well)
                if is_well and is_kept and until is None:
                    return "healthy", found
                if is_well:
                    unwell_since = None
                elif cause := await self._misfit(client, status):
                    return "misfit", cause
                else:
                    unwell_since = unwell_since or time.monotonic()
            if until is not None and datetime.now(UTC) >= until:
                return "over", found
            if unwell_since is not None and time.monotonic() - unwell_since > self.limit_seconds:
                return "unready", await self._with_want_of_slots(client, status, found)
            left = (until - datetime.now(UTC)).total_seconds() if until else self.poll_interval_seconds
            await asyncio.sleep(max(0.0, min(left, self.poll_interval_seconds)))

    async def _with_want_of_slots(self, client: Any, status: JobStatus | None, found: str) -> str:
        from tallyclerk.hooks.flink_reading import async_want_of_slots

        if status is None or status.tasks_running == status.tasks_total:
            return found
        try:
            want = await async_want_of_slots(client)
        except ServiceUnavailableError:
            return found
        return f"{found}; {want}" if want else found

    async def _misfit(self, client: Any, status: JobStatus) -> str:
        """Why the tasks cannot read the state they were given; "" when it is something else, or nothing."""
        from tallyclerk.hooks.flink_reading import async_last_failure
        from tallyclerk.hooks.flink_status import STATE_MISFITS, root_cause

        if status.newest is not None or status.restarts == 0:
            return ""
        try:
            told = await async_last_failure(client, self.job_id)
        except ServiceUnavailableError:
            return ""  # the next look asks again
        return root_cause(told) if any(mark in told for mark in STATE_MISFITS) else ""


class _Keeper:
    """Writes what was seen into the table; the driver is not asynchronous, so it works in threads."""

    def __init__(self, trigger: FlinkJobTrigger, cassandra: CassandraClusterHook) -> None:
        self._trigger, self._cassandra = trigger, cassandra
        self._is_noted_as_running = False
        self.kept = ""

    async def keep(self, status: JobStatus, is_well: bool) -> bool:
        """False when Cassandra is away: what was seen is not written."""
        newest = status.newest
        steps: list[Callable[[FlinkJobsTable, int], None]] = []
        if newest is not None and newest.path != self.kept:
            steps.append(lambda table, number: table.note_checkpoint(number, newest.number, newest.path))
        if is_well and not self._is_noted_as_running:
            steps.append(lambda table, number: table.note_running(number))
        if not steps:
            return True
        try:
            await asyncio.to_thread(self._write, steps)
        except ServiceUnavailableError as error:
            self._trigger.log.warning("%s: the checkpoint is not kept yet: %s", self._trigger.job, error)
            return False
        self.kept = newest.path if newest is not None else ""
        self._is_noted_as_running |= is_well
        return True

    def _write(self, steps: list[Callable[[FlinkJobsTable, int], None]]) -> None:
        from tallyclerk.sinks.cassandra_flink_jobs import FlinkJobsTable

        table = FlinkJobsTable(
            self._cassandra.session, keyspace=self._trigger.keyspace, job=self._trigger.job,
            backoff=self._cassandra.backoff, address=self._cassandra.address,
        )  # fmt: skip
        for step in steps:
            step(table, self._trigger.generation)
