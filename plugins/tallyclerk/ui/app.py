"""The application: routers, security headers, and errors that a person can read."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from tallyclerk.ui import metrics, pages, parts
from tallyclerk.ui.access import SITE
from tallyclerk.ui.rendering import airflow_base, render

if TYPE_CHECKING:
    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.responses import Response

ROUTERS = (pages.router, parts.router)
"""All that is served; the guards of ``SITE`` are added to each."""

_HEADERS = {
    # everything comes from here; Airflow shows the page in a frame
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_TITLES = {401: "You are not logged in", 403: "You may not see this", 404: "There is no such page"}


@cache
def application() -> FastAPI:
    """Made once in a process."""
    app = FastAPI(title="Tallyclerk", docs_url=None, redoc_url=None, openapi_url=None)
    for router in ROUTERS:
        app.include_router(router, dependencies=SITE)
    app.include_router(metrics.router)  # guarded by a token: Prometheus cannot log in
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    app.add_exception_handler(HTTPException, _refusal)
    app.middleware("http")(_with_headers)
    return app


async def _with_headers(request: Request, call_next: RequestResponseEndpoint) -> Response:
    answer = await call_next(request)
    answer.headers.update(_HEADERS)
    # what is told of loads is only for whom it was asked
    answer.headers.setdefault("Cache-Control", "public, max-age=300" if "/static/" in request.url.path else "no-store")
    return answer


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    login = f"{airflow_base(request)}/auth/login?next={quote(str(request.url), safe='')}"
    return render(
        request,
        "refusal.html",
        here="",
        status_code=error.status_code,
        title=_TITLES.get(error.status_code, "This cannot be answered"),
        detail=str(error.detail),
        login=login if error.status_code == 401 else "",
    )
