"""Wait until a Flink job is well."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from tallyclerk.exceptions import ServiceUnavailableError

if TYPE_CHECKING:
    from tallyclerk.hooks.flink_status import JobStatus


class FlinkJobHealthTrigger(BaseTrigger):
    """The looks of :class:`~tallyclerk.sensors.flink_job.FlinkJobSensor`. Fires once, with ``status`` ``success``, ``restarts``
    (more than allowed) or ``timeout``. A triggerer that restarts begins to count anew.

    :param limit_seconds: for the whole wait.
    """

    def __init__(
        self,
        *,
        job_name: str,
        max_checkpoint_age_seconds: float,
        max_restarts: int | None,
        max_pending_records: int | None,
        poll_interval_seconds: float,
        limit_seconds: float,
        flink_conn_id: str = "flink_default",
    ) -> None:
        super().__init__()
        self.job_name = job_name
        self.max_checkpoint_age_seconds, self.max_restarts = max_checkpoint_age_seconds, max_restarts
        self.max_pending_records, self.poll_interval_seconds = max_pending_records, poll_interval_seconds
        self.limit_seconds, self.flink_conn_id = limit_seconds, flink_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        limits = ("max_checkpoint_age_seconds", "max_restarts", "max_pending_records", "limit_seconds")
        return (
            "tallyclerk.triggers.flink_job_health.FlinkJobHealthTrigger",
            {name: getattr(self, name) for name in ("job_name", *limits, "poll_interval_seconds", "flink_conn_id")},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        import httpx
        from asgiref.sync import sync_to_async

        from tallyclerk.hooks.flink import FlinkHook

        hook = FlinkHook(self.flink_conn_id)
        await sync_to_async(lambda: hook.client_options)()
        async with httpx.AsyncClient(**hook.client_options) as client:
            yield TriggerEvent(await self._until_well(client))

    async def _until_well(self, client: Any) -> dict[str, Any]:
        from tallyclerk.hooks.flink_reading import async_newest_job, async_pending_records, async_status

        deadline, well_looks = time.monotonic() + self.limit_seconds, 0
        wanted_looks = 1 if self.max_pending_records is None else 2
        restarts_before: dict[str, int] = {}
        last_restarts: dict[str, int] = {}
        while True:
            try:
                job_id = await async_newest_job(client, self.job_name)
                status = await async_status(client, job_id) if job_id else None
                pending = None
                if job_id and status and self.max_pending_records is not None:
                    pending = await async_pending_records(client, job_id)
            except ServiceUnavailableError as error:
                lacks, well_looks = str(error), 0
            else:
                lacks = self._lacks(status, pending)
                if job_id and status:
                    since = status.restarts - restarts_before.setdefault(job_id, status.restarts)
                    if self.max_restarts is not None and since > self.max_restarts:
                        return {"status": "restarts", "message": str(status), "restarts": since}
                    if last_restarts.setdefault(job_id, status.restarts) != status.restarts:
                        lacks = lacks or "it was restarted just now"
                    last_restarts[job_id] = status.restarts
                    well_looks = 0 if lacks else well_looks + 1
                    if well_looks >= wanted_looks:
                        return _facts(job_id, status, pending)
            if time.monotonic() + self.poll_interval_seconds > deadline:
                return {"status": "timeout", "message": lacks, "limit_seconds": self.limit_seconds}
            await asyncio.sleep(self.poll_interval_seconds)

    def _lacks(self, status: JobStatus | None, pending: int | None) -> str:
        """What is not as it should be; "" when everything is."""
        if status is None:
            return "no job of this name runs"
        if not status.is_healthy(self.max_checkpoint_age_seconds):
            return str(status)
        if self.max_pending_records is not None and (pending is None or pending > self.max_pending_records):
            waiting = "an unknown number of" if pending is None else f"{pending:,}"
            return f"{waiting} messages wait, more than {self.max_pending_records:,}"
        return ""


def _facts(job_id: str, status: JobStatus, pending: int | None) -> dict[str, Any]:
    age = status.checkpoint_age
    return {
        "status": "success",
        "message": str(status),
        "job_id": job_id,
        "checkpoint_age_seconds": age.total_seconds() if age is not None else None,
        "restarts": status.restarts,
        "pending_records": pending,
    }
