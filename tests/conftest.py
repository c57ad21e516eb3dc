"""Fixtures for every test below."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.running import RunTask


@pytest.fixture
def run_task() -> RunTask:
    """Run an operator as a worker would, without scheduler, API server or database; see :mod:`tests.running`.

    Connections come from ``AIRFLOW_CONN_<ID>`` variables (``monkeypatch.setenv``).
    """
    from tests.running import run_task_in_process  # most tests need no Airflow

    return run_task_in_process
