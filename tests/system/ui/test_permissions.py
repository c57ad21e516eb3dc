"""Each route by nobody, by a stranger's token, and by one who may only look."""

from __future__ import annotations

import httpx
import pytest
from fastapi.routing import APIRoute
from playwright.sync_api import BrowserContext
from starlette.routing import Mount

from tallyclerk.ui.app import application
from tests.system.ui.conftest import PAGE

pytestmark = pytest.mark.system

_VALUES = {"dag_id": "retail_daily", "task_id": "sales_to_hdfs", "dataset": "transactions", "name": "transactions"}
RUNS = "/api/v2/dags/quarantine_replay/dagRuns"
CONF = {"dataset": "transactions", "date": "2026-01-31", "corrections": []}


def requests() -> list[tuple[str, str]]:
    """Method and path of every route that the application has, whoever added it."""
    found = []
    for route in application().routes:
        assert isinstance(route, APIRoute | Mount), f"a route of an unknown kind is not guarded by anyone: {route}"
        if isinstance(route, Mount):
            assert route.path == "/static", "a mounted application is not guarded by ours"
            continue
        path = route.path.format_map(_VALUES)
        found += [(method, f"{path}?window=2026-01-31") for method in route.methods]
    return found


def test_the_application_has_the_pages_that_are_checked() -> None:
    assert {path.partition("?")[0] for _, path in requests()} >= {"/", "/quarantine", "/kpis", "/parts/quarantine"}


@pytest.mark.parametrize(("method", "path"), requests())
def test_nobody_is_refused_on_every_route(anonymous: httpx.Client, method: str, path: str) -> None:
    answer = anonymous.request(method, f"{PAGE}{path}")
    assert answer.status_code in (401, 403)
    forged = anonymous.request(method, f"{PAGE}{path}", headers={"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."})
    assert forged.status_code in (401, 403)


def test_a_viewer_reads_every_page_when_logged_in(viewer: BrowserContext) -> None:
    for path in ("/", "/dags/retail_daily", "/quarantine", "/quarantine/transactions", "/kpis", "/parts/quarantine"):
        assert viewer.request.get(f"{PAGE}{path}").ok, path


def test_a_viewer_is_refused_when_asking_for_a_replay(viewer: BrowserContext) -> None:
    answer = viewer.request.post(RUNS, data={"logical_date": None, "conf": CONF})
    assert answer.status == 403


def test_a_replay_is_refused_when_another_sites_form_asks_for_it(admin: BrowserContext) -> None:
    # a form can be sent from elsewhere with the user's cookie, JSON cannot
    answer = admin.request.post(RUNS, form={"logical_date": "", "conf": "{}"})
    assert answer.status == 422
