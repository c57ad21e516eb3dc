"""The shop's API: its pages, its key, its live sales."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import psutil
import pytest

from include.shop import landing
from include.shop.source import parquet_file
from include.shop.trading_days import TradingDays
from tests.integration.rest.conftest import RunningShop

pytestmark = pytest.mark.integration
DAY = date(2026, 3, 10)


def follow(
    shop: RunningShop, path: str, next_page: Callable[[httpx.Response], dict[str, Any] | str | None], **first: Any
) -> list[Any]:
    """All rows, page by page."""
    found: list[Any] = []
    answer = shop.http.get(path, params=first)
    while True:
        found += answer.raise_for_status().json()["data"]
        following = next_page(answer)
        if not following:
            return found
        answer = shop.http.get(following) if isinstance(following, str) else shop.http.get(path, params=following)


def test_every_product_is_served_when_pages_are_followed(shop: RunningShop) -> None:
    rows = follow(
        shop,
        "/products",
        lambda a: {"page": a.json()["page"] + 1, "limit": 1000} if a.json()["data"] else None,
        page=1,
        limit=1000,
    )
    columns = (
        "product_id",
        "manufacturer_id",
        "department",
        "brand",
        "product_category",
        "product_type",
        "package_size",
    )
    expected = duckdb.sql(
        f"SELECT product_id::VARCHAR, manufacturer_id::VARCHAR, {', '.join(columns[2:])} "
        f"FROM '{parquet_file('products')}' ORDER BY product_id"
    ).fetchall()
    assert [tuple(row[column] for column in columns) for row in rows] == expected
    assert len(rows) == 92_331


def test_the_four_ways_to_page_give_the_same_rows(shop: RunningShop) -> None:
    shop.plan(first_products=950)
    by_cursor = follow(
        shop,
        "/products",
        lambda a: (c := a.json()["next_cursor"]) and {"cursor": c, "limit": 300},
        cursor="",
        limit=300,
    )
    by_offset = follow(
        shop,
        "/products",
        lambda a: {"offset": a.json()["offset"] + 300, "limit": 300} if a.json()["data"] else None,
        offset=0,
        limit=300,
    )
    by_link = follow(shop, "/products", lambda a: a.links.get("next", {}).get("url"), limit=300)
    assert by_cursor == by_offset == by_link == shop.all_products()
    assert len(by_cursor) == 950


@pytest.mark.parametrize("header", [None, "Bearer wrong", "Bearer", "Basic a-key-of-the-test"])
def test_nothing_is_served_when_the_key_is_not_shown(shop: RunningShop, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/products", "/transactions", "/_faults"):
        answer = httpx.get(f"{shop.url}{path}", headers=headers, trust_env=False)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert httpx.get(f"{shop.url}/health", trust_env=False).json()["status"] == "ok"


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": 1001}, {"page": 0}, {"offset": -1}, {"cursor": "§"}])
def test_a_page_that_cannot_be_is_refused(shop: RunningShop, params: dict[str, Any]) -> None:
    assert shop.http.get("/products", params=params).status_code in (400, 422)


def sales(shop: RunningShop, **params: Any) -> list[dict[str, Any]]:
    return follow(
        shop, "/transactions",
        lambda a: (c := a.json()["next_cursor"]) and {**params, "cursor": c, "limit": 1000}, cursor="", limit=1000, **params,
    )  # fmt: skip


def test_live_sales_are_those_of_the_nightly_file_when_their_time_has_come(shop: RunningShop, tmp_path: Path) -> None:
    landing.export_days(TradingDays(DAY + timedelta(days=1)), tmp_path, last=1)
    with (tmp_path / landing.file_name(DAY)).open() as lines:
        nightly = list(csv.DictReader(lines))
    noon = datetime(2026, 3, 10, 12, tzinfo=UTC)
    passed = [row for row in nightly if row["transaction_timestamp"] <= "2026-03-10 12:00:00"]
    assert 0 < len(passed) < len(nightly)
    shop.plan(now=noon.isoformat())
    live = sales(shop)
    assert [row["transaction_id"] for row in live] == [row["transaction_id"] for row in passed]
    for column in ("product_id", "transaction_timestamp"):
        assert [row[column] for row in live] == [row[column] for row in passed]
    assert [f"{row['sales_value']:.2f}" for row in live] == [row["sales_value"] for row in passed]
    shop.plan(now="2026-03-11T00:00:00+00:00")
    assert len(sales(shop, since="2026-03-10T00:00:00+00:00")) == len(nightly)


def test_a_span_is_half_open(shop: RunningShop) -> None:
    shop.plan(now="2026-03-10T18:00:00+00:00")
    all_day = sales(shop)
    middle = all_day[len(all_day) // 2]["transaction_timestamp"]
    moment = middle.replace(" ", "T") + "+00:00"
    before, after = sales(shop, until=moment), sales(shop, since=moment)
    assert before + after == all_day
    assert before[-1]["transaction_timestamp"] < middle == after[0]["transaction_timestamp"]


def test_a_span_is_refused_when_it_is_too_long(shop: RunningShop) -> None:
    answer = shop.http.get("/transactions", params={"since": "2025-01-01T00:00:00+00:00"})
    assert answer.status_code == 400
    assert "31 days" in answer.json()["detail"]


def test_the_shop_stays_small(shop: RunningShop) -> None:
    (process,) = [
        connection.pid for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == shop.port
    ]  # fmt: skip
    assert psutil.Process(process).memory_info().rss < 250 * 2**20
