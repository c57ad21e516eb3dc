"""`airflow dags backfill` against Airflow's own database, as far as it changes nothing; tests/system lets it run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from stack import processes
from stack.airflow_api import AirflowApi
from stack.settings import load_settings
from tests.integration.airflow.conftest import Run

pytestmark = pytest.mark.integration
DAG = "retail_daily"
RANGE = ("-s", "2025-02-01", "-e", "2025-02-03")
"""Days of the DAG's that nothing else here works on."""


@pytest.fixture(scope="module", autouse=True)
def _dag_is_read() -> None:
    with AirflowApi(load_settings()) as api:
        assert processes.wait_until(lambda: api.has_dag(DAG), 120), api.import_errors()


@pytest.fixture
def backfill(airflow: Run) -> Run:
    return partial(airflow, "dags", "backfill")


def planned(shown: str) -> list[tuple[str, str]]:
    """(day, action) of each line of the plan's table."""
    lines = shown.splitlines()
    table = lines[next(number for number, line in enumerate(lines) if line.startswith("interval")) + 1 :]
    return [(line.split()[0][:10], line.split()[1]) for line in table if line.startswith("2025-")]


def test_each_day_is_planned_once_when_it_is_a_dry_run(backfill: Run) -> None:
    code, shown, _ = backfill(DAG, *RANGE, "-n", "--max-active-runs", "3")
    assert code == 0
    assert "3 to create; 3 at once" in shown
    assert planned(shown) == [(f"2025-02-0{day}", "create") for day in (1, 2, 3)]
    assert backfill(DAG, *RANGE, "-n")[1].splitlines()[0].endswith("2 at once"), (
        "the DAG's own limit is not the default"
    )


def test_the_newest_day_comes_first_when_it_runs_backwards(backfill: Run) -> None:
    assert [day for day, _ in planned(backfill(DAG, *RANGE, "-n", "-B")[1])] == [
        "2025-02-03",
        "2025-02-02",
        "2025-02-01",
    ]


def test_days_that_are_not_over_are_left_out_when_the_range_reaches_into_the_future(backfill: Run) -> None:
    today = datetime.now(UTC).date()
    code, shown, _ = backfill(DAG, "-s", str(today - timedelta(days=2)), "-e", str(today + timedelta(days=3)), "-n")
    assert code == 0
    assert "4 intervals of the range are not over yet and are left out" in shown


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("retail_dayly", *RANGE), "did you mean 'retail_daily'?"),
        ((DAG,), "give --start-date, --end-date or both"),
        ((DAG, "-s", "2025-02-03", "-e", "2025-02-01"), "swap them"),
        ((DAG, "-s", "2125-02-03"), "is in the future"),
        ((DAG, *RANGE, "-c", "date=2025-02-01"), "--conf is not JSON"),
        ((DAG, *RANGE, "-c", "[1]"), "--conf must be a JSON object"),
    ],
)
def test_it_is_refused_in_one_sentence_when_it_cannot_run(
    backfill: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    code, _, complaints = backfill(*arguments)
    assert code == 2
    assert sentence in complaints
    assert "Traceback" not in complaints
