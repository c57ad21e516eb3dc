"""What was rejected, mended in the browser: a file's day is loaded again and its ledger closes; a message is in its topic again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from include.shop import environment
from stack import processes
from stack.settings import LOOPBACK, ROOT, Settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tests.integration.kafka.replay_case import DATE, ReplayCase, replay_case
from tests.running import RunTask
from tests.system.conftest import DAG
from tests.system.reading_api import ReadingApi
from tests.system.retail import expected_ledger, raw_receipts
from tests.system.test_quarantine_replay import REPLAY
from tests.system.ui.conftest import faults, opened

pytestmark = [pytest.mark.system, pytest.mark.long]

_RUN_LIMIT_MILLISECONDS = 1_800_000


@pytest.fixture
def rejected(
    day: date, damaged: tuple[int, str], settings: Settings, monkeypatch: pytest.MonkeyPatch, run_task: RunTask
) -> tuple[int, str]:
    """The damaged day's sales in the lake, as `retail_daily` loads them; its other tasks come with the replay."""
    for connection, facts in {
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "fs_landing": {"conn_type": "fs", "extra": {"path": str(environment.landing_folder())}},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", json.dumps(facts))
    sales = CsvToHdfsOperator(
        task_id="sales_to_hdfs",
        contract=str(ROOT / "include/contracts/transactions.odcs.yaml"),
        target="/data/raw/transactions",
        row_filters=["sales_value > 0"],
    )
    whole = expected_ledger(day)
    loaded = run_task(sales, conf={"date": day.isoformat()}).value
    assert Ledger.from_dict(loaded["ledger"]) == replace(whole, written=whole.written - 1, rejected=1)
    return damaged


def assert_only_read(viewer: BrowserContext, path: str, heading: str) -> None:
    """Who may not replay sees the record, and nothing to replay it with."""
    page = opened(viewer.new_page(), path)
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    assert page.locator("form.replay, button:has-text('Replay')").count() == 0
    page.close()


def test_the_ledger_closes_when_a_record_is_mended_in_the_browser(
    page: Page,
    viewer: BrowserContext,
    api: ReadingApi,
    day: date,
    rejected: tuple[int, str],
    settings: Settings,
    shoot: Callable[[Page, str], None],
) -> None:
    number, line = rejected
    assert processes.wait_until(lambda: api.has_dag(REPLAY), 120), api.import_errors()
    path = f"/quarantine/transactions?window={day}"

    assert_only_read(viewer, path, f"record {number:,}")

    opened(page, path)
    record = page.locator(".records li", has_text=f"record {number:,}")
    expect(record).to_contain_text("'broken' is not a decimal")
    record.get_by_text("Mend and replay").click()
    record.get_by_label("as it ought to have come").fill(line)
    record.get_by_label("Why").fill("the till was out of order")
    shoot(page, "quarantine")
    record.get_by_role("button", name=f"Replay {day}").click()
    expect(record.get_by_role("status")).to_contain_text("The ledger closes", timeout=_RUN_LIMIT_MILLISECONDS)

    whole = expected_ledger(day)
    assert raw_receipts(settings, day)[0].ledger == whole
    opened(page, f"/dags/{DAG}/loads/sales_to_hdfs/transactions?window={day}")
    shown = page.locator(".sum b").all_inner_texts()
    assert shown == [f"{count:,}" for count in whole.as_dict().values()]
    assert shown[2] == "0"
    opened(page, path)
    expect(page.get_by_text("Nothing is in quarantine here")).to_be_visible()


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayCase]:
    with replay_case(tmp_path, monkeypatch) as made:
        yield made


def test_a_message_is_in_its_topic_again_when_it_is_mended_in_the_browser(
    page: Page, viewer: BrowserContext, api: ReadingApi, stream: ReplayCase, run_task: RunTask
) -> None:
    assert processes.wait_until(lambda: api.has_dag(REPLAY), 120), api.import_errors()
    stream.load_with_a_damaged_message(run_task)
    path = f"/quarantine/{stream.name}.stream?window={DATE}"

    assert_only_read(viewer, path, f"{stream.name}/0, offset 1")

    opened(page, path)
    (record,) = page.locator(".records li").all()
    expect(record).to_contain_text("many")
    record.get_by_text("Mend and replay").click()
    field = record.get_by_label("The message as it ought to have come")
    field.fill(field.input_value().replace("many", "2.00"))
    assert faults(page) == []
    record.get_by_role("button", name="Send it again").click()
    expect(record.get_by_role("status")).to_contain_text("Sent again as", timeout=_RUN_LIMIT_MILLISECONDS)

    ((value, headers),) = stream.replays()
    assert (json.loads(value)["amount"], headers) == ("2.00", {"tallyclerk.replay.of": f"{stream.name}/0:1".encode()})
    (sent_as,) = (each["sent_as"] for each in stream.outcomes())
    opened(page, path)
    expect(page.locator(".records li")).to_contain_text(f"replayed as {sent_as}")
    assert page.locator("form.replay").count() == 0
    stream.assert_mended(run_task)
