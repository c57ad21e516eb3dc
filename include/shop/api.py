"""The shop's API: products and live sales, page by page, behind a bearer key.

============================ ================================================================================
``GET /products``            the catalogue, by product number
``GET /transactions``        sales whose time has come: ``since`` (its default is the start of today) up to ``until``
``GET /health``              whether it serves; needs no key
``POST``, ``GET /_faults``   only with ``--faults``: see :mod:`include.shop.faults`
============================ ================================================================================

Four ways to page, all answering ``{"data": [...], "total": N, ...}`` and an RFC 8288 ``Link`` header with ``rel="next"``:
``page`` from 1 and ``limit``; ``offset`` and ``limit``; ``cursor`` (empty for the first page), answered with
``next_cursor``; or just following the links.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from include.shop import rows as shop_rows
from include.shop import trading_days
from include.shop.exceptions import ShopError
from include.shop.faults import Faults, Plan, Repeated, Slow, Status, Truncated
from include.shop.rows import Rows
from include.shop.trading_days import TradingDays

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000
UNSTRUCK = "x-unstruck"
"""A request with this header is neither counted nor struck by the plan of faults: for tests to see how things stand."""


@dataclass(slots=True)
class Shop:
    """What the routes share.

    :param api_key: what a bearer must show.
    :param faults: None where the switches are off.
    """

    api_key: str = field(repr=False)
    faults: Faults | None = None
    catalogue: Rows = field(default_factory=lambda: Rows([]))
    pristine: Rows = field(default_factory=lambda: Rows([]))

    def open(self) -> None:
        self.pristine = shop_rows.products()
        self.catalogue = self.pristine

    def now(self) -> datetime:
        """The shop's time, naive and in UTC: the clock's time of day on the shop's today."""
        planned = self.faults.plan.now if self.faults else None
        if planned:
            return planned.astimezone(UTC).replace(tzinfo=None)
        return datetime.combine(trading_days.current().today, datetime.now(UTC).time())

    def follow(self, plan: Plan) -> None:
        """Begin anew under a plan, with the whole catalogue or its beginning."""
        self.faults = Faults(plan)
        kept = slice(plan.first_products)
        self.catalogue = Rows(self.pristine.bodies[kept], self.pristine.ranks[kept])

    def admits(self, authorization: str | None) -> bool:
        scheme, _, key = (authorization or "").partition(" ")
        # the same time for every wrong key
        return hmac.compare_digest(key.strip().encode(), self.api_key.encode()) and scheme.lower() == "bearer"


@dataclass(frozen=True, slots=True)
class Paging:
    """Which slice is asked for, and how the next one is named."""

    rows: Rows
    page: int | None
    offset: int | None
    cursor: str | None
    limit: int

    @property
    def start(self) -> int:
        if self.cursor is not None:
            return self.rows.index_after(_rank(self.cursor)) if self.cursor else 0
        if self.offset is not None:
            return self.offset
        return ((self.page or 1) - 1) * self.limit

    def following(self) -> dict[str, str | int]:
        """The parameters of the next page; {} behind the last one."""
        end = self.start + self.limit
        if end >= len(self.rows):
            return {}
        if self.cursor is not None:
            return {"cursor": _cursor(self.rows.ranks[end - 1]), "limit": self.limit}
        if self.offset is not None:
            return {"offset": end, "limit": self.limit}
        return {"page": (self.page or 1) + 1, "limit": self.limit}

    def body(self) -> bytes:
        following = self.following()
        facts = [f'"total":{len(self.rows)}', f'"limit":{self.limit}']
        if self.cursor is not None:
            cursor = following.get("cursor")
            facts.append(f'"next_cursor":"{cursor}"' if cursor else '"next_cursor":null')
        elif self.offset is not None:
            facts.append(f'"offset":{self.offset}')
        else:
            facts.append(f'"page":{self.page or 1}')
        data = b",".join(self.rows.bodies[self.start : self.start + self.limit])
        return b'{"data":[' + data + b"]," + ",".join(facts).encode() + b"}"


def create_app(api_key: str, *, with_faults: bool = False) -> FastAPI:
    """The application; products are read before it serves.

    :raises ShopError: the key is empty, or the data are not installed.
    """
    if not api_key:
        raise ShopError("TALLYCLERK_SHOP_API_KEY is not set: `make up` makes one in .env.")
    shop = Shop(api_key, Faults() if with_faults else None)
    shop.open()
    app = FastAPI(title="Shop", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next):  # type: ignore[no-untyped-def]
        if request.url.path != "/health" and not shop.admits(request.headers.get("authorization")):
            headers = {"WWW-Authenticate": "Bearer"}
            return JSONResponse({"detail": "Show the key: Authorization: Bearer <key>."}, 401, headers)
        return await call_next(request)

    @app.exception_handler(ShopError)
    async def refuse(_: Request, error: ShopError) -> Response:
        return JSONResponse({"detail": str(error)}, 400)

    @app.get("/health")
    async def health() -> dict[str, str | int]:
        return {"status": "ok", "today": shop.now().date().isoformat(), "products": len(shop.pristine)}

    @app.get("/products")
    async def products(
        request: Request,
        page: int | None = Query(None, ge=1),
        offset: int | None = Query(None, ge=0),
        cursor: str | None = None,
        limit: int = Query(DEFAULT_LIMIT, ge=1, le=LARGEST_LIMIT),
    ) -> Response:
        return await _answer(shop, request, lambda: Paging(shop.catalogue, page, offset, cursor, limit))

    @app.get("/transactions")
    async def transactions(
        request: Request,
        since: datetime | None = None,
        until: datetime | None = None,
        page: int | None = Query(None, ge=1),
        offset: int | None = Query(None, ge=0),
        cursor: str | None = None,
        limit: int = Query(DEFAULT_LIMIT, ge=1, le=LARGEST_LIMIT),
    ) -> Response:
        now = shop.now()
        begin = _naive(since) if since else datetime.combine(now.date(), datetime.min.time())
        # a sale of this very second has been made
        passed = now + timedelta(microseconds=1)
        end = min(_naive(until), passed) if until else passed
        found = shop_rows.sales(TradingDays(now.date()), begin, max(begin, end))
        return await _answer(shop, request, lambda: Paging(found, page, offset, cursor, limit))

    if with_faults:

        @app.post("/_faults")
        async def plan(asked: Plan) -> dict[str, int]:
            shop.follow(asked)
            return {"steps": len(asked.steps)}

        @app.get("/_faults")
        async def asked() -> dict[str, list[str]]:
            return {"requests": shop.faults.requests if shop.faults else []}

    return app


async def _answer(shop: Shop, request: Request, paging) -> Response:  # type: ignore[no-untyped-def]
    """One page, as the plan of faults would have it. ``paging`` is made once the plan has moved the rows."""
    struck = []
    if shop.faults and UNSTRUCK not in request.headers:
        movable = shop.catalogue if request.url.path == "/products" else None
        struck = list(shop.faults.strike(f"{request.url.path}?{request.url.query}", movable))
    asked: Paging = paging()
    body, following = asked.body(), asked.following()
    headers = {}
    if following:
        kept = {key: value for key, value in request.query_params.items() if key in ("since", "until")}
        address = f"{request.url.path}?{urlencode({**kept, **following})}"
        headers["Link"] = f'<{address}>; rel="next", <{request.url.path}>; rel="first"'
    for step in struck:
        if isinstance(step, Status):
            return JSONResponse({"detail": "as the plan says"}, step.status, step.headers())
        if isinstance(step, Slow):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Repeated) and shop.faults:
            body = shop.faults.last_body
        elif isinstance(step, Truncated):
            half = body[: len(body) // 2]
            # the server sees that the body falls short of its header, and breaks the connection
            return Response(half, headers={"Content-Length": str(len(body))} if step.closes else None, media_type=_JSON)
    if shop.faults and UNSTRUCK not in request.headers:
        shop.faults.last_body = body
    return Response(body, headers=headers, media_type=_JSON)


_JSON = "application/json"


def _naive(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant


def _cursor(rank: float) -> str:
    return base64.urlsafe_b64encode(repr(rank).encode()).decode()


def _rank(cursor: str) -> float:
    try:
        return float(base64.urlsafe_b64decode(cursor))
    except (ValueError, binascii.Error):
        raise HTTPException(400, "This cursor is none of ours: begin without one.") from None


def serve(*, host: str = "127.0.0.1", port: int, api_key: str, with_faults: bool = False) -> None:
    """Serve until stopped."""
    import uvicorn

    uvicorn.run(
        create_app(api_key, with_faults=with_faults),
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=3,
    )
