"""The batch jobs on the real HDFS over tables of delta-rs: whatever happens to a day, the answer follows from the raw rows alone."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable

import pytest
from deltalake import DeltaTable

from tests.integration.spark.conftest import BatchSession, receipts_of
from tests.integration.spark.small_lake import SmallLake, day, sale

pytestmark = pytest.mark.integration
TABLES = (
    "processed/transactions",
    "enriched/transactions",
    "enriched/customer_kpis",
    "enriched/department_kpis",
)


def iso(*numbers: int) -> list[str]:
    return [day(number).isoformat() for number in numbers]


def fill(lake: SmallLake) -> None:
    """Four windows with everything that can be odd about a row; window 2 is empty."""
    lake.load_customers(0, {1: "25-34", 2: "35-44"})
    lake.load_customers(2, {1: "35-44", 2: "35-44"})
    lake.load_products(1, {"p": "GROCERY", "q": "DRUG"})
    lake.load_products(3, {"p": "GROCERY", "q": "PASTRY"})
    lake.load_sales(0, [sale("a", 0, 101), sale("b", 0, 202, 2, "q"), sale("moves", 0, 300), sale("stays", 0, 5)])
    lake.load_sales(
        1, [sale("c", 1, 1), sale("c", 1, 1), sale("d", 1, 2, 9, "q"), sale("late", 0, 77), sale("a", 0, 111)]
    )
    lake.load_sales(2, [])
    lake.load_sales(3, [sale("e", 3, 9), sale("moves", 2, 300), sale("late too", 1, 50), sale("d", 1, 3, 9, "q")])


def test_tables_follow_the_raw_rows_when_windows_are_late_corrected_emptied_and_repeated(
    lake: SmallLake, batch_session: BatchSession
) -> None:
    fill(lake)
    cleaned, enriched, kpis, departments = batch_session.run(lake, *iso(0, 3))["receipts"]
    lake.check()
    assert cleaned["window"] == "2026-01-29T00:00:00+00:00/2026-02-02T00:00:00+00:00"
    assert cleaned["ledger"] == {"read": 13, "written": 9, "rejected": 0, "filtered": 0, "deduplicated": 4}
    assert enriched["ledger"]["read"] == enriched["ledger"]["written"] == kpis["ledger"]["written"] == 9
    assert departments["ledger"]["written"] == 9
    assert enriched["details"]["unknown_customer_rows"] == 1
    assert enriched["details"]["unknown_product_rows"] == 4
    assert kpis["details"]["rows"] == 6
    assert all(
        receipt["details"]["event_dates"] == iso(0, 1, 2, 3) for receipt in (cleaned, enriched, kpis, departments)
    )

    # window 3 is corrected: `moves` goes back to its first version and day, `d` to its first price, `late too` vanishes
    lake.load_sales(3, [sale("e", 3, 10)])
    receipts = batch_session.run(lake, *iso(3))["receipts"]
    lake.check()
    assert receipts[0]["details"]["event_dates"] == iso(0, 1, 2, 3)
    assert receipts[0]["details"]["arrived"] == {
        "read": 1,
        "written": 1,
        "rejected": 0,
        "filtered": 0,
        "deduplicated": 0,
    }

    # window 1 is emptied, its day with it; what it corrected falls back
    lake.load_sales(1, [])
    receipts = batch_session.run(lake, *iso(1))["receipts"]
    lake.check()
    assert receipts[0]["details"]["arrived"]["read"] == 0
    assert day(1) not in {row["transaction_date"] for row in lake.rows("processed/transactions")}

    # once more, nothing has changed: the same rows in a new commit, and the same dates for whatever loads them onward
    again = batch_session.run(lake, *iso(1))["receipts"]
    lake.check()
    for before, after in zip(receipts, again, strict=True):
        assert after["version"] == before["version"] + 1
        assert after["details"]["event_dates"] == before["details"]["event_dates"]
        assert after["details"]["rows"] == before["details"]["rows"]


def test_changes_are_taken_in_by_the_next_run_when_an_application_died_between_two_jobs(
    lake: SmallLake, batch_session: BatchSession
) -> None:
    fill(lake)
    batch_session.run(lake, *iso(0, 3))
    lake.load_sales(1, [])
    cleaned = batch_session.run(lake, *iso(1), only="clean")["receipts"]
    assert len(cleaned) == 1

    _, enriched, *kpis = batch_session.run(lake, *iso(2))["receipts"]  # another window

    lake.check()
    assert set(cleaned[0]["details"]["event_dates"]) < set(enriched["details"]["event_dates"])
    assert all(enriched["details"]["event_dates"] == each["details"]["event_dates"] for each in kpis)


def test_commits_carry_their_receipts_and_delta_rs_reads_the_tables(
    lake: SmallLake, batch_session: BatchSession
) -> None:
    fill(lake)
    receipts = batch_session.run(lake, *iso(2))["receipts"]  # an empty day before anything else

    for path, receipt in zip(TABLES, receipts, strict=True):
        table = DeltaTable(f"{lake.uri}/{path}")
        protocol = table.protocol()
        stored = json.loads(table.history(1)[0]["userMetadata"])["tallyclerk.receipt"]
        assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)
        assert stored | {"version": receipt["version"]} == receipt
        assert receipt["location"] == f"{lake.uri}/{path}"
        assert receipt["version"] == table.version()
        assert receipt["details"]["event_dates"] == iso(2)
        assert receipt["details"]["rows"] == table.to_pyarrow_table().num_rows == receipt["ledger"]["written"]


def test_one_answer_when_windows_change_and_run_in_random_order(lake: SmallLake, batch_session: BatchSession) -> None:
    chance = random.Random(11)
    for number in range(3):
        lake.load_customers(number, {household: f"{household}-{number}" for household in range(1, 4)})
        lake.load_products(number, {"p": f"department {number}"})
        lake.load_sales(number, [])
    order = [1, 0, 2, 1]
    for number in order:
        rows = [
            sale(chance.choice("abcdef"), number - chance.randrange(3), chance.randrange(1, 500), chance.randrange(5))
            for _ in range(8)
        ]
        lake.load_sales(number, rows)
        assert "receipts" in batch_session.run(lake, *iso(number))
    lake.check()


def test_refusal_before_any_commit_when_the_sources_do_not_fit(lake: SmallLake, batch_session: BatchSession) -> None:
    assert "load the day's files first" in batch_session.run(lake, *iso(0))["error"]
    fill(lake)
    batch_session.run(lake, *iso(0))
    versions = [lake.version(path) for path in TABLES]

    lake.load_sales(1, [sale("a", 1, 1) | {"transaction_id": None}])
    answer = batch_session.run(lake, *iso(1))

    assert "have no transaction_id" in answer["error"]
    assert [lake.version(path) for path in TABLES] == versions


def test_one_answer_and_success_when_two_applications_run_one_day_at_once(
    lake: SmallLake, submit: Callable[..., subprocess.Popen[str]]
) -> None:
    fill(lake)
    both = [submit("retail_batch.py", "--date", *iso(1), "--lake", lake.uri, master="local[1]") for _ in range(2)]
    finished = [(process.communicate(timeout=1500), process.returncode) for process in both]

    assert [code for _, code in finished] == [0, 0], finished[0][0][1][-2000:] + finished[1][0][1][-2000:]
    answers = [receipts_of(stdout) for (stdout, _), _ in finished]
    for one, other in zip(*answers, strict=True):
        assert one["version"] != other["version"]
        assert one["ledger"] == other["ledger"]
        assert one["details"] == other["details"]
    lake.check(only={day(0), day(1)})
