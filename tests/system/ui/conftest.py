"""Debian's Chromium before the stack's own Airflow, logged in as each of its users. `stack.browser` gets it for `make test`.

``TALLYCLERK_SCREENSHOTS=docs/img`` writes the pictures of the documentation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from stack import browser as chromium
from stack.services import airflow
from stack.settings import Settings
from tests.system.test_quarantine_replay import damaged, day  # noqa: F401 - fixtures: a day of which a record is rejected

LIMIT_MILLISECONDS = 90_000
PAGE = "/tallyclerk"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Until the module's end: while the driver lives, its event loop runs here, and no other test could run one."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium.ensure_browser(), args=list(chromium.ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def admin(browser: Browser, settings: Settings) -> Iterator[BrowserContext]:
    """Who may do everything; logged in by the form, as people do."""
    yield from _logged_in(browser, settings, "admin")


@pytest.fixture(scope="module")
def viewer(browser: Browser, settings: Settings) -> Iterator[BrowserContext]:
    yield from _logged_in(browser, settings, "viewer")


@pytest.fixture
def page(admin: BrowserContext) -> Iterator[Page]:
    """A page of the admin's. What it complains of fails the test."""
    page = admin.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


@pytest.fixture(scope="session")
def anonymous(settings: Settings) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=airflow.url(settings), timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="session")
def shoot() -> Callable[[Page, str], None]:
    folder = os.environ.get("TALLYCLERK_SCREENSHOTS")

    def shoot(page: Page, name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png")

    return shoot


def opened(page: Page, path: str) -> Page:
    """The page with all its parts fetched."""
    page.goto(f"{PAGE}{path}")
    # a locator, as the page's policy forbids to evaluate what a waiting function is made of
    expect(page.locator("[data-part][aria-busy=true]")).to_have_count(0, timeout=LIMIT_MILLISECONDS)
    return page


def faults(page: Page) -> list[str]:
    """What axe-core finds that keeps people from reading or reaching something: the rule, and the element."""
    found = Axe().run(page).response
    # nothing is found on a page that it could not look at
    assert {"document-title", "color-contrast"} & {rule["id"] for rule in found["passes"]}
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found["violations"] for node in rule["nodes"]]


def cells(page: Page, row: str) -> list[str]:
    """The text of the cells of the first row whose heading begins so."""
    found = page.locator("tbody tr", has=page.locator("th[scope=row]", has_text=row)).first
    return [text.strip() for text in found.locator("th, td").all_inner_texts()]


def _logged_in(browser: Browser, settings: Settings, user: str) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=airflow.url(settings), viewport={"width": 1280, "height": 800})
    context.set_default_timeout(LIMIT_MILLISECONDS)
    page = context.new_page()
    page.goto("/")
    page.fill("input[name=username]", user)
    page.fill("input[name=password]", settings.secret(f"AIRFLOW_{user.upper()}_PASSWORD"))
    page.click("button[type=submit]")
    page.get_by_role("link", name="Tallyclerk").wait_for()
    page.close()
    yield context
    context.close()
