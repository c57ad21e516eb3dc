"""Which run `make run` shows: the scheduler's own where there is one, else one that it triggers."""

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import create_autospec

import pytest

from stack.airflow_api import AirflowApi
from stack.demo import run_dag

LONG_AGO = "2026-01-31"


@pytest.fixture
def yesterday() -> str:
    """Asked for by the test that runs, not when the tests are collected: a session may last beyond midnight."""
    return str(datetime.now(UTC).date() - timedelta(days=1))


@pytest.fixture
def api() -> Any:
    """Airflow with the DAG, whose runs succeed at once."""
    made = create_autospec(AirflowApi, instance=True)
    made.has_dag.return_value = True
    made.scheduled_run.return_value = None
    made.trigger.return_value = "manual__1"
    made.task_states.return_value = {"load": "success"}
    made.run_state.return_value = "success"
    return made


def test_the_schedulers_run_is_followed_when_unpausing_makes_one(
    api: Any, yesterday: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.scheduled_run.side_effect = [None, "scheduled__1"]
    api.run_state.side_effect = ["queued", "queued", "running", "success"]
    assert run_dag(api, "daily", yesterday) == "success"
    api.unpause.assert_called_once_with("daily")
    api.trigger.assert_not_called()
    assert "following daily: scheduled__1" in capsys.readouterr().out


def test_nothing_runs_again_when_the_schedulers_run_has_succeeded(
    api: Any, yesterday: str, capsys: pytest.CaptureFixture[str]
) -> None:
    api.scheduled_run.return_value = "scheduled__1"
    assert run_dag(api, "daily", yesterday) == "success"
    api.trigger.assert_not_called()
    assert "has succeeded already" in capsys.readouterr().out


def test_a_run_is_triggered_when_the_scheduler_is_not_at_that_day(api: Any) -> None:
    assert run_dag(api, "daily", LONG_AGO) == "success"
    api.trigger.assert_called_once_with("daily", {"date": LONG_AGO})


def test_a_run_is_triggered_when_the_schedulers_run_has_failed(api: Any, yesterday: str) -> None:
    api.scheduled_run.return_value = "scheduled__1"
    states = {"scheduled__1": "failed", "manual__1": "failed"}
    api.run_state.side_effect = lambda dag_id, run_id: states[run_id]
    assert run_dag(api, "daily", yesterday) == "failed"
    api.trigger.assert_called_once_with("daily", {"date": yesterday})
