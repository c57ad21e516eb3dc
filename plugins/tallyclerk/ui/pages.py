"""The pages. Each reads Airflow's own database only; what a service has to be asked for is a part that the browser fetches."""

from __future__ import annotations

import datetime
from typing import Annotated
from urllib.parse import urlencode

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from tallyclerk.ui.access import DATA, RECEIPTS, MayReplay, ReadableDags
from tallyclerk.ui.loads import HISTORY, Load, newest_comparisons, newest_loads, recent_loads
from tallyclerk.ui.rendering import render

router = APIRouter()


@router.get("/")
def overview(request: Request, session: SessionDep, dags: ReadableDags) -> Response:
    """Every load's newest receipt, the newest comparison of both layers, and the services."""
    loads = newest_loads(session, dags)
    return render(
        request, "overview.html", here="overview", loads=loads, comparisons=newest_comparisons(session, dags),
        open_ledgers=[load for load in loads if not load.closes],
        rejected=sum(load.receipt.ledger.rejected for load in loads),
    )  # fmt: skip


@router.get("/dags/{dag_id}", dependencies=RECEIPTS)
def of_dag(request: Request, session: SessionDep, dag_id: str) -> Response:
    """The tab of a DAG: its loads."""
    return render(
        request, "dag.html", here="", dag_id=dag_id, loads=newest_loads(session, [dag_id]),
        comparisons=newest_comparisons(session, [dag_id]),
    )  # fmt: skip


@router.get("/dags/{dag_id}/loads/{task_id}/{dataset}", dependencies=RECEIPTS)
def receipt(
    request: Request, session: SessionDep, dag_id: str, task_id: str, dataset: str, window: str | None = None
) -> Response:
    """One receipt, and the windows that its task has loaded lately."""
    told = [load for load in recent_loads(session, [dag_id], task_id=task_id, limit=HISTORY) if load.dataset == dataset]
    shown = next((load for load in told if window in (None, load.window)), None)
    if shown is None:
        raise HTTPException(404, f"No receipt of {dataset} is among the last {HISTORY} answers of {dag_id}.{task_id}.")
    part = f"/parts/commit/{dag_id}/{task_id}/{dataset}?{urlencode({'window': shown.window})}"
    return render(
        request, "receipt.html", here="", load=shown, history=_windows(told), part_path=part,
        facts={name: shown.receipt.details[name] for name in sorted(shown.receipt.details)},
    )  # fmt: skip


@router.get("/quarantine", dependencies=DATA)
def quarantine(request: Request) -> Response:
    return render(request, "quarantine.html", here="quarantine", part="/parts/quarantine", name="")


@router.get("/quarantine/{name}", dependencies=DATA)
def quarantined(request: Request, replay: MayReplay, name: str, window: str = "", reason: str = "") -> Response:
    """One data set's rejected records, and for those who may replay them the form to do it."""
    query = urlencode({"window": window, "reason": reason})
    return render(
        request,
        "quarantine.html",
        here="quarantine",
        part=f"/parts/quarantine/{name}?{query}",
        name=name,
        replay=replay,
    )


@router.get("/kpis", dependencies=DATA)
def kpis(
    request: Request,
    customer: Annotated[str, Query(max_length=100)] = "",
    date: Annotated[datetime.date | None, Query()] = None,
) -> Response:
    """A customer's days, or a day's best customers; without either, yesterday is asked for."""
    asked = {"customer": customer.strip(), "date": date.isoformat() if date else ""}
    return render(
        request,
        "kpis.html",
        here="kpis",
        customer=asked["customer"],
        date=asked["date"],
        part=f"/parts/kpis?{urlencode({k: v for k, v in asked.items() if v})}",
    )


def _windows(told: list[Load]) -> list[Load]:
    """Of each window the newest answer."""
    newest: dict[str, Load] = {}
    for load in told:
        newest.setdefault(load.window, load)
    return list(newest.values())
