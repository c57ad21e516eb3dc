"""``/tallyclerk/metrics`` for Prometheus, which cannot log in: it shows a token of its own, ``TALLYCLERK_METRICS_TOKEN``."""

from __future__ import annotations

import hmac
import os
from datetime import UTC, datetime
from typing import Annotated

from airflow.api_fastapi.common.db.common import SessionDep
from fastapi import APIRouter, Depends, Header, HTTPException
from starlette.responses import Response

from tallyclerk.monitoring.loads import measure_loads
from tallyclerk.monitoring.services import measure_services
from tallyclerk.ui.loads import newest_comparisons, newest_loads

TOKEN_VARIABLE = "TALLYCLERK_METRICS_TOKEN"  # noqa: S105 - its name
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def may_scrape(authorization: Annotated[str, Header()] = "") -> None:
    """:raises HTTPException: 401 without the token; 503 where none is set, so that nothing is ever open by omission."""
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        raise HTTPException(
            503, f"{TOKEN_VARIABLE} is not set for the API server: set it (.env, or a secret), and restart it."
        )
    # compared as bytes: text beyond ASCII is refused by compare_digest
    if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, f"Send the header `Authorization: Bearer <{TOKEN_VARIABLE}>`.")


router = APIRouter(dependencies=[Depends(may_scrape)])


@router.get("/metrics")
def metrics(session: SessionDep) -> Response:
    """Everything that is known at this moment, in Prometheus' text."""
    found = measure_loads(newest_loads(session), newest_comparisons(session), datetime.now(UTC))
    found.take(measure_services())
    return Response(found.text(), media_type=_CONTENT_TYPE)
