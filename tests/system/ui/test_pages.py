"""What the pages say, against the lake's own receipts and the source's own sums; and whether anyone can use them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.system.conftest import DayRuns
from tests.system.retail import expected_kpis, expected_ledger
from tests.system.ui.conftest import cells, opened

pytestmark = [pytest.mark.system, pytest.mark.slow]

SALES = "/dags/retail_daily/loads/sales_to_hdfs/transactions"
_LIMIT_SECONDS = 0.2
_BEST = 25

# the contrast of each text with what is behind it (WCAG 2.2, 1.4.3), where there is no picture; alpha is laid over what is below
_FAINT_TEXTS = """() => {
  const parse = (color) => { const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number); return { r, g, b, a }; };
  const light = ({ r, g, b }) => [r, g, b].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => { for (let e = element; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a === 1) return c; } return { r: 255, g: 255, b: 255 }; };
  return [...document.body.querySelectorAll("*")]
    .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && e.checkVisibility() && !e.closest("svg, .hidden, noscript"))
    .map((e) => { const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x); return [(a + 0.05) / (b + 0.05), e.outerHTML.slice(0, 120)]; })
    .filter(([ratio]) => ratio < 4.5).map(([ratio, html]) => `${ratio.toFixed(2)} ${html}`);
}"""
_FAULTS = """() => [
  ...(document.documentElement.lang ? [] : ["no language"]),
  ...(document.querySelectorAll("h1").length === 1 ? [] : ["not one h1"]),
  ...["main", "header", "footer", "nav[aria-label]"].filter((n) => document.querySelectorAll(n).length !== 1).map((n) => `not one ${n}`),
  ...[...document.querySelectorAll("table")].filter((t) => !t.caption || !t.caption.textContent.trim()).map(() => "a table without a caption"),
  ...[...document.querySelectorAll("th")].filter((t) => !t.scope).map((t) => `no scope: ${t.outerHTML}`),
  ...[...document.querySelectorAll("input, select, textarea")].filter((i) => !i.labels.length).map((i) => `no label: ${i.outerHTML}`),
  ...[...document.querySelectorAll("img")].filter((i) => !i.hasAttribute("alt")).map((i) => `no alt: ${i.outerHTML}`),
  ...[...document.querySelectorAll("svg")].filter((s) => s.getAttribute("role") !== "img" || !document.getElementById(s.getAttribute("aria-labelledby"))).map(() => "an svg without a name"),
  ...[...document.querySelectorAll(".scroll")].filter((s) => s.tabIndex !== 0 || !s.getAttribute("aria-label")).map(() => "a scrolling table that keys cannot reach"),
  ...[...document.querySelectorAll("[id]")].map((e) => e.id).filter((id, i, all) => all.indexOf(id) !== i).map((id) => `twice: ${id}`),
]"""


def test_the_receipt_is_the_tables_own_when_a_day_was_loaded(
    page: Page, triggered: DayRuns, shoot: Callable[[Page, str], None]
) -> None:
    opened(page, f"{SALES}?window={triggered.day}")
    shown = dict(zip(("read", "written", "rejected", "filtered", "deduplicated"),
                     page.locator(".sum b").all_inner_texts(), strict=True))  # fmt: skip
    counts = expected_ledger(triggered.day)
    assert shown == {name: f"{count:,}" for name, count in counts.as_dict().items()}
    assert counts == triggered.raw[0].ledger
    expect(page.locator(".sum .badge")).to_contain_text("the ledger closes")
    expect(page.locator("section[aria-labelledby=commit]")).to_contain_text(triggered.raw[0].load_id)
    expect(page.get_by_text(triggered.raw[0].load_id).first).to_be_visible()
    shoot(page, "receipt")


def test_airflows_navigation_leads_to_the_overview_when_clicked(
    page: Page, triggered: DayRuns, shoot: Callable[[Page, str], None]
) -> None:
    page.goto("/")
    page.get_by_role("link", name="Tallyclerk").click()
    frame = page.frame_locator("iframe[title=Tallyclerk]")
    loads = frame.get_by_role("table", name="Each load’s newest receipt").locator("tbody tr")
    expect(loads.filter(has_text="sales_to_hdfs").first).to_contain_text("closes")
    for counts in [row.locator("td.n").all_inner_texts()[:5] for row in loads.all()]:
        read, *parts = (int(count.replace(",", "")) for count in counts)
        assert read == sum(parts)
    expect(frame.locator("[data-part][aria-busy=true]")).to_have_count(0)
    expect(frame.get_by_role("table", name="The newest receipt in each table")).to_contain_text(
        "enriched/customer_kpis"
    )
    shoot(page, "overview")


def test_a_dag_has_its_ledger_as_a_tab_when_opened_in_airflow(page: Page, triggered: DayRuns) -> None:
    page.goto("/dags/retail_daily")
    page.get_by_role("link", name="Ledger").click()
    frame = page.frame_locator("iframe[title=Ledger]")
    expect(frame.get_by_role("heading", name="Loads of retail_daily")).to_be_visible()
    expect(frame.get_by_role("link", name="sales_to_hdfs")).to_be_visible()
    expect(frame.get_by_role("link", name="changes_to_hdfs")).to_have_count(0)


def test_the_kpis_are_the_sources_when_a_day_is_asked_for(
    page: Page, triggered: DayRuns, shoot: Callable[[Page, str], None]
) -> None:
    opened(page, "/kpis")
    page.fill("#date", triggered.day.isoformat())
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**date=*")
    expect(page.get_by_role("img", name="customers who bought most")).to_be_visible()
    shown = [row.locator("th, td").all_inner_texts() for row in page.locator("tbody tr").all()]
    best = sorted(expected_kpis(triggered.day).items(), key=lambda each: (-each[1].total, each[0]))[:_BEST]
    assert [tuple(row[:5]) for row in shown] == [
        (customer, f"{kpis.total:,}", f"{kpis.count:,}", f"{kpis.average:,}", "batch layer") for customer, kpis in best
    ]
    shoot(page, "kpis")

    customer, kpis = best[0]
    opened(page, f"/kpis?customer={customer}")
    assert cells(page, triggered.day.isoformat())[1] == f"{kpis.total:,}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_anyone_can_read_and_reach_everything_in_airflows_theme(page: Page, triggered: DayRuns, theme: str) -> None:
    page.goto("/")
    page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
    try:
        for path in ("/", "/dags/retail_daily", SALES, "/quarantine", f"/kpis?date={triggered.day}", "/nowhere"):
            opened(page, path)
            assert page.evaluate("document.documentElement.dataset.theme") == theme
            assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == theme
            assert page.evaluate(_FAINT_TEXTS) == [], path
            assert page.evaluate(_FAULTS) == [], path
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    finally:
        page.evaluate("localStorage.removeItem('theme')")


def test_nothing_is_fetched_from_elsewhere_when_the_page_is_read(page: Page, triggered: DayRuns) -> None:
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    for path in ("/", f"/kpis?date={triggered.day}"):
        opened(page, path)
    assert hosts == {page.url.split("/")[2]}
    policy = page.request.get(page.url).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize("path", ["/", "/dags/retail_daily", SALES, "/quarantine", "/kpis"])
def test_a_page_is_there_at_once_when_it_was_read_before(admin: BrowserContext, triggered: DayRuns, path: str) -> None:
    def seconds() -> float:
        started = time.perf_counter()
        assert admin.request.get(f"/tallyclerk{path}").ok
        return time.perf_counter() - started

    seconds()
    assert statistics.median(seconds() for _ in range(10)) <= _LIMIT_SECONDS
