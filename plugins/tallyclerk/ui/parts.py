"""Parts of pages, fetched by the browser: what only a service knows. A service that is away is a state to be shown, not an error."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Annotated, Any

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response

from tallyclerk.exceptions import ServiceUnavailableError, TallyclerkError
from tallyclerk.operators.replay import REPLAY_DAG
from tallyclerk.ui import quarantine as quarantined_records
from tallyclerk.ui import services
from tallyclerk.ui.access import DATA, RECEIPTS, MayReplay, ReadableDags
from tallyclerk.ui.charts import bar_chart
from tallyclerk.ui.loads import HISTORY, newest_loads, recent_loads
from tallyclerk.ui.mending import shown_records
from tallyclerk.ui.rendering import render
from tallyclerk.ui.streams import streams as newest_streams

router = APIRouter(prefix="/parts")
_BEST = 25


@router.get("/flink", dependencies=DATA)
def flink(request: Request) -> Response:
    return _shown(request, "part_flink.html", lambda: {"jobs": services.flink_jobs()})


@router.get("/connectors", dependencies=DATA)
def connectors(request: Request) -> Response:
    return _shown(request, "part_connectors.html", lambda: {"connectors": services.connectors()})


@router.get("/streams", dependencies=DATA)
def streams(request: Request, session: SessionDep, dags: ReadableDags) -> Response:
    return _shown(request, "part_streams.html", lambda: {"streams": newest_streams(newest_loads(session, dags))})


@router.get("/lake", dependencies=DATA)
def lake(request: Request) -> Response:
    return _shown(request, "part_lake.html", lambda: {"tables": services.lake_receipts()})


@router.get("/quarantine", dependencies=DATA)
def quarantine(request: Request) -> Response:
    return _shown(request, "part_quarantine.html", lambda: {"tables": quarantined_records.all_reasons()})


@router.get("/quarantine/{name}", dependencies=DATA)
def quarantined(request: Request, replay: MayReplay, name: str, window: str = "", reason: str = "") -> Response:
    def asked() -> dict[str, Any]:
        found = quarantined_records.findings(name, window=window, reason=reason)
        return {
            "name": name, "window": window, "reason": reason, "found": found, "records": shown_records(name, found.rows),
            "replay": replay, "replay_dag": REPLAY_DAG, "is_stream": name.endswith(".stream"),
        }  # fmt: skip

    return _shown(request, "part_quarantined.html", asked)


@router.get("/kpis", dependencies=DATA)
def kpis(
    request: Request,
    customer: Annotated[str, Query(max_length=100)] = "",
    date: Annotated[datetime.date | None, Query()] = None,
) -> Response:
    day = date or datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=1)

    def asked() -> dict[str, Any]:
        with services.kpi_view() as view:
            if customer:
                rows = view.customer(customer, date, date)
                bars = [(f"{row.date:%d %b}", row) for row in reversed(rows[:_BEST])]
                title = f"What customer {customer} bought on each day, in dollars"
            else:
                rows = view.day(day)
                bars = [(row.customer_id, row) for row in rows[:_BEST]]
                title = f"The {len(bars)} customers who bought most on {day}, in dollars"
        chart = bar_chart(
            title, [(label, float(row.total_amount), f"{row.total_amount:,}", row.layer) for label, row in bars]
        )
        return {
            "customer": customer, "day": day, "rows": rows[:_BEST], "count": len(rows), "chart": chart,
            "total": sum(row.total_amount for row in rows), "sales": sum(row.transaction_count for row in rows),
            "layers": sorted({row.layer for row in rows}),
        }  # fmt: skip

    return _shown(request, "part_kpis.html", asked)


@router.get("/commit/{dag_id}/{task_id}/{dataset}", dependencies=RECEIPTS)
def commit(request: Request, session: SessionDep, dag_id: str, task_id: str, dataset: str, window: str) -> Response:
    """Whether the sink's own commit says what Airflow was told."""
    told = recent_loads(session, [dag_id], task_id=task_id, limit=HISTORY)
    load = next((each for each in told if (each.dataset, each.window) == (dataset, window)), None)
    if load is None:
        raise HTTPException(404, f"Airflow was told of no load {dataset}@{window} by {dag_id}.{task_id}.")

    def asked() -> dict[str, Any]:
        held = services.committed(load.receipt)
        return {"told": load.receipt, "held": held, "agree": held is not None and held.ledger == load.receipt.ledger}

    return _shown(request, "part_commit.html", asked)


def _shown(request: Request, template: str, asked: Callable[[], dict[str, Any]]) -> Response:
    try:
        values = asked()
    except TallyclerkError as error:
        state = "unreachable" if isinstance(error, ServiceUnavailableError) else "refused"
        return render(request, "part_away.html", state=state, told=str(error))
    return render(request, template, **values)
