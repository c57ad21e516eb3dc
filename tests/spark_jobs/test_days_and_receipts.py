"""Windows, predicates, ledgers and retries."""

from __future__ import annotations

import argparse
import json
from datetime import date

import pytest
from pyspark.sql import SparkSession

from spark_jobs.commit_log import commit_in
from spark_jobs.days import (
    DayRange,
    add_day_arguments,
    day_range,
    partition_date,
    partitions_between_sql,
    partitions_sql,
)
from spark_jobs.failures import ContentionError, JobError, LedgerError, SpecificationError, run_job, with_retries
from spark_jobs.receipts import Ledger, Receipt, metadata_of

SPAN = DayRange(date(2025, 12, 30), date(2026, 1, 2))


def parsed(*arguments: str) -> DayRange:
    parser = argparse.ArgumentParser()
    add_day_arguments(parser)
    return day_range(parser, parser.parse_args(arguments))


def test_window_key_is_the_provider_s_when_one_day_or_several_are_named() -> None:
    assert parsed("--date", "2026-01-02").key == "2026-01-02"
    assert parsed("--from", "2026-01-02", "--to", "2026-01-02").key == "2026-01-02"
    assert (
        parsed("--from", "2025-12-30", "--to", "2026-01-02").key
        == "2025-12-30T00:00:00+00:00/2026-01-03T00:00:00+00:00"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--from", "2026-01-02"],
        ["--date", "2026-01-02", "--to", "2026-01-03"],
        ["--from", "2026-01-02", "--to", "2026-01-01"],
        ["--date", "x"],
    ],
)
def test_usage_error_when_the_days_are_not_one_range(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed(*arguments)
    assert stop.value.code == 2


def test_predicates_hold_for_exactly_their_days_when_a_year_turns(spark: SparkSession) -> None:
    days = DayRange(date(2025, 11, 1), date(2026, 2, 28)).days()
    frame = spark.createDataFrame([(day.year, day.month, day.day) for day in days], "year INT, month INT, day INT")
    some = [date(2025, 12, 31), date(2026, 1, 1), date(2026, 2, 1)]

    def hit(predicate: str) -> list[date]:
        return sorted(row[0] for row in frame.where(predicate).select(partition_date()).collect())

    assert hit(partitions_between_sql(SPAN)) == SPAN.days()
    assert hit(partitions_sql(some)) == some
    assert hit(partitions_sql([])) == []


@pytest.mark.parametrize("counts", [(5, 4, 0, 0, 0), (5, 6, 0, 0, -1), (0, 0, 1, 0, 0)])
def test_ledger_refuses_when_rows_are_unaccounted_for(counts: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(LedgerError, match="Nothing was committed"):
        Ledger(*counts).check("sales@2026-01-01")


def test_receipt_stands_under_the_provider_s_key_when_it_is_committed() -> None:
    receipt = Receipt("sales", "2026-01-01", Ledger(read=3, written=2, filtered=1), "hdfs://x", paths=("hdfs://x/y",))

    facts = json.loads(receipt.as_metadata(4, "abc"))

    assert facts["tallyclerk.receipt"]["ledger"] == {
        "read": 3,
        "written": 2,
        "rejected": 0,
        "filtered": 1,
        "deduplicated": 0,
    }
    assert facts["tallyclerk.receipt"]["paths"] == ["hdfs://x/y"]
    assert facts["tallyclerk.fence"] == 4


@pytest.mark.parametrize("text", [None, "", "not json", "[1]", "3"])
def test_commits_of_others_are_without_receipt_when_their_metadata_is_not_ours(text: str | None) -> None:
    assert metadata_of(text) == {}


def test_a_commit_is_read_from_its_log_file_whoever_wrote_it() -> None:
    receipt = Receipt(
        "sales", "2026-01-01", Ledger(read=2, written=2), "hdfs://x", details={"event_dates": ["2026-01-01"]}
    )
    ours = {"userMetadata": receipt.as_metadata(4, "abc"), "operationMetrics": {"numOutputRows": "2"}}
    log_file = "\n".join(json.dumps(action) for action in ({"add": {"path": "x"}}, {"remove": {"path": "y"}}))
    written = commit_in(7, json.dumps({"commitInfo": ours}, separators=(",", ":")) + "\n" + log_file)

    assert (written.version, written.metrics, written.event_dates()) == (7, {"numOutputRows": "2"}, {date(2026, 1, 1)})
    assert commit_in(8, log_file).metadata == {}
    assert commit_in(9, '{"commitInfo":{"operation":"OPTIMIZE"}}\n').receipt == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (JobError("x"), 65),
        (LedgerError("x", {}, "x"), 65),
        (SpecificationError("x"), 64),
        (ContentionError("x"), 75),
    ],
)
def test_the_exit_code_tells_the_submitter_what_may_help(error: Exception, code: int) -> None:
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run_job(main)
    assert stop.value.code == code


def test_retry_starts_again_when_another_application_was_faster() -> None:
    outcomes = [ContentionError("first"), ContentionError("second"), "done"]

    def attempt() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ContentionError):
            raise outcome
        return outcome

    assert with_retries(attempt, what="sales", pause_seconds=0) == "done"


def test_contention_is_told_when_it_persists_and_other_errors_pass_at_once() -> None:
    calls: list[int] = []

    def beaten() -> None:
        calls.append(1)
        raise ContentionError("again")

    def broken() -> None:
        calls.append(1)
        raise LedgerError("sales", {"read": 1}, "rule")

    with pytest.raises(ContentionError, match="3 times in a row"):
        with_retries(beaten, what="sales", attempts=3, pause_seconds=0)
    assert len(calls) == 3
    with pytest.raises(LedgerError):
        with_retries(broken, what="sales", attempts=3, pause_seconds=0)
    assert len(calls) == 4
