"""Fixtures for every test below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.running import RunDag, RunTask


@pytest.fixture
def run_task() -> RunTask:
    """Run an operator as a worker would, without scheduler, API server or database; see :mod:`tests.running`.

    Connections come from ``AIRFLOW_CONN_<ID>`` variables (``monkeypatch.setenv``).
    """
    from tests.running import run_task_in_process  # most tests need no Airflow

    return run_task_in_process


@pytest.fixture
def run_dag() -> RunDag:
    """Run a whole DAG as :func:`run_task` runs a task: each task once, in order, with the XComs of those before it."""
    from tests.running import run_dag_in_process

    return run_dag_in_process
