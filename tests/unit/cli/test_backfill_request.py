"""What `airflow dags backfill` makes of its arguments."""

from __future__ import annotations

from argparse import Namespace
from datetime import UTC, datetime

import pytest

from tallyclerk.cli.backfill_request import BackfillRequest, Reprocess
from tallyclerk.exceptions import SpecError

FIRST, LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)


def arguments(**given: object) -> Namespace:
    defaults = {
        "dag_id": "d", "start_date": FIRST, "end_date": LAST, "conf": None, "run_backwards": False,
        "reset_dagruns": False, "rerun_failed_tasks": False, "max_active_runs": None,
    }  # fmt: skip
    return Namespace(**{**defaults, **given})


@pytest.mark.parametrize("missing", ["start_date", "end_date"])
def test_one_date_stands_for_both_when_the_other_is_missing(missing: str) -> None:
    request = BackfillRequest.from_arguments(arguments(**{missing: None}))
    assert request.start == request.end


def test_no_date_is_refused() -> None:
    with pytest.raises(SpecError, match="--start-date"):
        BackfillRequest.from_arguments(arguments(start_date=None, end_date=None))


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(SpecError, match="before the start date"):
        BackfillRequest.from_arguments(arguments(start_date=LAST, end_date=FIRST))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, Reprocess.NONE),
        ({"rerun_failed_tasks": True}, Reprocess.FAILED),
        ({"reset_dagruns": True}, Reprocess.COMPLETED),
        ({"reset_dagruns": True, "rerun_failed_tasks": True}, Reprocess.COMPLETED),
    ],
)
def test_the_flags_choose_which_existing_runs_run_again(flags: dict[str, bool], expected: Reprocess) -> None:
    assert BackfillRequest.from_arguments(arguments(**flags)).reprocess is expected


def test_reprocess_has_airflows_values() -> None:
    from airflow.models.backfill import ReprocessBehavior

    assert {str(ours) for ours in Reprocess} == {theirs.value for theirs in ReprocessBehavior}


@pytest.mark.parametrize("conf", ["{a: 1}", "[1]", "1", ""])
def test_a_conf_that_is_no_json_object_is_refused(conf: str) -> None:
    with pytest.raises(SpecError, match="--conf"):
        BackfillRequest.from_arguments(arguments(conf=conf))


def test_the_command_line_names_the_same_range() -> None:
    line = BackfillRequest.from_arguments(arguments()).command_line("--rerun-failed-tasks")
    assert line == (
        "airflow dags backfill d -s 2026-01-01T00:00:00+00:00 -e 2026-01-03T00:00:00+00:00 --rerun-failed-tasks"
    )
