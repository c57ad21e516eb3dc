"""The readings of a Flink job for triggers, asynchronously."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import ServiceUnavailableError
from tallyclerk.hooks.flink_status import OVER, JobStatus, job_status, read, status_paths

if TYPE_CHECKING:
    import httpx


async def async_status(client: httpx.AsyncClient, job_id: str) -> JobStatus | None:
    """As :meth:`~tallyclerk.hooks.flink.FlinkHook.status`."""
    return job_status(*[await _get(client, path) for path in status_paths(job_id)])


async def async_last_failure(client: httpx.AsyncClient, job_id: str) -> str:
    """As :meth:`~tallyclerk.hooks.flink.FlinkHook.last_failure`."""
    return last_failure_of(await _get(client, f"/jobs/{job_id}/exceptions?maxExceptions=1"))


async def async_want_of_slots(client: httpx.AsyncClient) -> str:
    """Why tasks may wait: "" while a slot is free."""
    found = await _get(client, "/overview") or {}
    if found.get("slots-available", 0) > 0:
        return ""
    return (
        f"no slot is free ({found.get('slots-total', 0)} in all): end another job, or add a TaskManager or slots to it"
    )


async def async_newest_job(client: httpx.AsyncClient, name: str) -> str | None:
    """The id of the job of that name that began last and is not over; None when there is none."""
    found = (await _get(client, "/jobs/overview") or {}).get("jobs", [])
    alive = [each for each in found if each["name"] == name and each["state"] not in OVER]
    return max(alive, key=lambda each: each["start-time"])["jid"] if alive else None


async def async_pending_records(client: httpx.AsyncClient, job_id: str) -> int | None:
    """Messages that are in the job's topics and that it has not read; None while Flink does not know.

    Metrics are fetched when they are asked for: only a second answer, some seconds later, can be believed.
    """
    job = await _get(client, f"/jobs/{job_id}")
    found: list[float] = []
    for vertex in (job or {}).get("vertices", []):
        path = f"/jobs/{job_id}/vertices/{vertex['id']}/subtasks/metrics"
        if names := _pending_metrics(await _get(client, path)):
            found += [each["sum"] for each in await _get(client, f"{path}?get={names}&agg=sum") or []]
    return int(sum(found)) if found else None


def _pending_metrics(listed: Any) -> str:
    """Names of the metrics that count unread messages, as a request names them."""
    return ",".join(each["id"] for each in listed or [] if each["id"].endswith(".pendingRecords"))


def last_failure_of(answer: Any) -> str:
    """The stack trace in the answer of ``/exceptions``; "" when nothing failed."""
    entries = ((answer or {}).get("exceptionHistory") or {}).get("entries") or []
    return str(entries[0]["stacktrace"]) if entries else ""


async def _get(client: httpx.AsyncClient, path: str) -> Any:
    import httpx

    address = str(client.base_url).rstrip("/")
    try:
        return read(await client.get(path), address=address)
    except httpx.TransportError as error:
        cause = str(error) or type(error).__name__
        raise ServiceUnavailableError(service="Flink", address=address, cause=cause) from error
