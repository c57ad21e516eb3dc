"""The reader of paged APIs and its client against the shop's real API, each switch thrown."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from typing import Any

import pytest

from tallyclerk.contracts import Contract
from tallyclerk.exceptions import RepeatedPageError, ServiceUnavailableError, SpecError
from tallyclerk.sources.rest_client import RetryBudget
from tallyclerk.sources.rest_pages import Page
from tests.integration.rest.conftest import KEY, RunningShop, pages_of

pytestmark = pytest.mark.integration
STYLES = ("page", "offset", "cursor", "link")
FEW = 2000
"""Products in most tests: ten pages of 200."""


def read(
    shop: RunningShop, contract: Contract, style: str = "page", *, page_size: int = 200, **options: Any
) -> list[Page]:
    assert contract.rest
    with shop.client(**options) as client:
        source = pages_of(client, contract, dialect=replace(contract.rest, paging=style), page_size=page_size)
        return list(source.pages(set()))


def ids(pages: list[Page]) -> list[str]:
    return [row for page in pages for row in page.rows.column("product_id").to_pylist()]


def catalogue(shop: RunningShop) -> list[str]:
    return [row["product_id"] for row in shop.all_products()]


def product(number: int) -> dict[str, Any]:
    return {"product_id": f"new-{number}", "manufacturer_id": "1", "department": "TOYS", "brand": "National"}


def test_every_product_fits_the_contract_when_all_are_read(shop: RunningShop, products: Contract) -> None:
    pages = read(shop, products, page_size=1000)
    asked = shop.requests()
    rows = [row for page in pages for row in page.rows.to_pylist()]
    assert rows == shop.all_products()
    assert (len(rows), sum(page.ledger.read for page in pages)) == (92_331, 92_331)
    assert len(asked) <= 98


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "step",
    [
        {"fault": "status", "status": 429, "retry_after": 0},
        {"fault": "status", "status": 429, "retry_after": None},
        {"fault": "status", "status": 500, "times": 3},
        {"fault": "status", "status": 503},
        {"fault": "truncated"},
        {"fault": "truncated", "closes": False},
    ],
    ids=lambda step: json.dumps(step),
)
def test_no_row_is_lost_or_doubled_when_an_answer_fails(
    shop: RunningShop, products: Contract, style: str, step: dict[str, Any]
) -> None:
    shop.plan({"request": 4, **step}, {"request": 8, **step}, first_products=FEW)
    found = ids(read(shop, products, style))
    assert found == catalogue(shop)


@pytest.mark.parametrize("as_date", [False, True])
def test_the_client_waits_as_long_as_retry_after_says(shop: RunningShop, products: Contract, as_date: bool) -> None:
    shop.plan(
        {"request": 2, "fault": "status", "status": 429, "retry_after": 2, "as_date": as_date}, first_products=300
    )
    waits: list[float] = []
    found = ids(read(shop, products, sleep=waits.append))
    assert len(found) == 300
    # a date has whole seconds, and some time passed on the way
    assert len(waits) == 1
    assert 0.5 <= waits[0] <= 2.2 if as_date else 2.0 <= waits[0] <= 2.2


def test_an_api_that_says_0_is_not_asked_in_a_busy_loop(shop: RunningShop, products: Contract) -> None:
    shop.plan({"request": 1, "times": 5, "fault": "status", "status": 429, "retry_after": 0}, first_products=10)
    waits: list[float] = []
    read(shop, products, sleep=waits.append)
    assert len(waits) == 5
    assert min(waits) >= 0.05
    assert waits[-1] > 4 * waits[0] * 0.5


def test_the_task_fails_for_now_when_the_wait_is_longer_than_the_budget(shop: RunningShop, products: Contract) -> None:
    shop.plan({"request": 2, "fault": "status", "status": 429, "retry_after": 3600}, first_products=FEW)
    began = time.monotonic()
    with pytest.raises(ServiceUnavailableError, match="HTTP 429"):
        read(shop, products)
    assert time.monotonic() - began < 60
    assert len(shop.requests()) == 2


def test_the_task_fails_for_now_when_an_attempts_number_is_used_up(shop: RunningShop, products: Contract) -> None:
    shop.plan({"request": 1, "times": 1000, "fault": "status", "status": 500}, first_products=10)
    with pytest.raises(ServiceUnavailableError, match="HTTP 500"):
        read(shop, products, budget=RetryBudget(attempts=3, floor_seconds=0.01))
    assert len(shop.requests()) == 3


def test_a_slow_answer_is_asked_for_again(shop: RunningShop, products: Contract) -> None:
    shop.plan({"request": 2, "fault": "slow", "seconds": 20}, first_products=500)
    found = ids(read(shop, products, budget=RetryBudget(timeout_seconds=2, floor_seconds=0.05)))
    assert len(found) == 500
    assert len(shop.requests()) == 4


@pytest.mark.parametrize(
    ("key", "endpoint", "message"),
    [("wrong", "/products", "HTTP 401.*bearer key"), (KEY, "/goods", "HTTP 404.*endpoint")],
)
def test_a_refusal_is_no_reason_to_ask_again(
    shop: RunningShop, products: Contract, key: str, endpoint: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with shop.client(key=key) as client, pytest.raises(SpecError, match=message) as refusal:
        list(pages_of(client, products, endpoint=endpoint).pages(set()))
    assert key not in f"{refusal.value!r} {client!r} {caplog.text}"


def test_a_link_to_another_host_is_refused(shop: RunningShop, products: Contract) -> None:
    with shop.client() as client, pytest.raises(SpecError, match="another host, to which the key must not go"):
        client.get("http://127.0.0.1:1/products", {}, lambda answer: answer)
    assert shop.requests() == []


@pytest.mark.parametrize("style", ["page", "offset"])
def test_a_repeated_page_fails_the_reading(shop: RunningShop, products: Contract, style: str) -> None:
    shop.plan({"request": 4, "fault": "repeated"}, first_products=FEW)
    with pytest.raises(RepeatedPageError, match="brings the rows of the page"):
        read(shop, products, style)
    assert len(shop.requests()) == 4


@pytest.mark.parametrize("style", ["cursor", "link"])
def test_a_repeated_page_fails_the_reading_when_cursors_lead(shop: RunningShop, products: Contract, style: str) -> None:
    shop.plan({"request": 4, "fault": "repeated"}, first_products=FEW)
    with pytest.raises(RepeatedPageError, match="again"):
        read(shop, products, style)
    assert len(shop.requests()) == 4


@pytest.mark.parametrize("style", STYLES)
def test_no_key_is_missing_or_doubled_when_products_come_and_go(
    shop: RunningShop, products: Contract, style: str
) -> None:
    before = set(catalogue(shop)[:FEW])
    shop.plan(
        {"request": 3, "fault": "inserted", "index": 10, "rows": [product(1), product(2)]},
        {"request": 4, "fault": "deleted", "index": 100, "count": 250},
        {"request": 5, "fault": "deleted", "index": 0, "count": 1},
        {"request": 5, "fault": "inserted", "index": 1900, "rows": [product(3)]},
        {"request": 7, "fault": "deleted", "index": 1500, "count": 3},
        {"request": 9, "fault": "inserted", "index": 0, "rows": [product(number) for number in range(4, 210)]},
        first_products=FEW,
    )
    pages = read(shop, products, style)
    found, after = ids(pages), set(catalogue(shop))
    assert len(found) == len(set(found))
    assert after <= set(found) <= before | after
    assert sum(page.ledger.written for page in pages) == len(found)


def test_each_problem_is_named_when_records_do_not_fit(shop: RunningShop, products: Contract) -> None:
    bad = [
        {**product(1), "brand": "Foreign"},
        {**product(2), "department": None, "product_id": 7},
        {"product_id": "new-3", "brand": "National", "department": "TOYS"},
        {**product(4), "package_size": "12 OZ", "unknown": 1},
    ]
    shop.plan({"request": 1, "fault": "inserted", "index": 3, "rows": bad}, first_products=10)
    (page,) = read(shop, products)
    assert [(p.ordinal, p.column, p.reason) for p in page.problems] == [
        (3, "brand", "rule:brand_known"),
        (4, "product_id", "type"),
        (5, "manufacturer_id", "required"),
    ]
    assert [json.loads(problem.raw_text) for problem in page.problems] == bad[:3]
    assert (page.ledger.read, page.ledger.written, page.ledger.rejected) == (14, 11, 3)
    assert "new-4" in ids([page])


def test_the_pace_is_kept(shop: RunningShop, products: Contract) -> None:
    shop.plan(first_products=1500)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    began = time.monotonic()
    read(shop, products, requests_per_second=10.0, sleep=sleep)
    requests = len(shop.requests())
    assert requests >= 8
    assert time.monotonic() - began >= (requests - 1) / 10 - 0.05
    assert sum(waits) <= (requests - 1) / 10
