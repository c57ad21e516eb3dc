"""Fixtures for every test below."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.running import RunDag, RunTask

Tell = Callable[[str], None]
"""The fixture ``tell``."""

# a test's tasks run in its own process, of which OpenLineage's provider would make a fork for each event
os.environ["AIRFLOW__OPENLINEAGE__DISABLED"] = "True"

_IN_ONE_PROCESS = ("tests/system", "tests/integration/spark", "tests/integration/flink", "tests/integration/connect")
"""Folders whose tests share what one session makes: a day's runs, a Spark session, slots, a connector."""
_LONGEST_FIRST = (
    # the scheduler's own first run of a day begins with whatever unpauses its DAG: here one waits for it
    "tests/system/test_retail_stream.py",
    "tests/system",
    "tests/integration/spark",
    "tests/faults",
    "tests/integration",
)
"""So that no process has minutes to go when the others have nothing left."""

_TOLD = "told"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _place(item.path.relative_to(config.rootpath)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Where `-n` runs several processes, one of them has all tests of a file, or of a folder that shares something.

    Not by xdist's own groups: with pytest 9.2 these are ignored, and nothing says so.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByPlace(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((folder for folder in _IN_ONE_PROCESS if file.startswith(f"{folder}/")), file)

    return ByPlace(config, log)


def _place(path: Path) -> int:
    found = (place for place, folder in enumerate(_LONGEST_FIRST) if path.is_relative_to(folder))
    return next(found, len(_LONGEST_FIRST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    ended = (report for state in ("passed", "failed") for report in terminalreporter.stats.get(state, ()))
    told = [text for report in ended if report.when == "call" for name, text in report.user_properties if name == _TOLD]
    if told:
        terminalreporter.section("measured")
        terminalreporter.write_line("\n".join(told))


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Tell:
    """Say what a test has measured, in the run's summary: what a process of several prints is seen by nobody."""
    return lambda text: record_property(_TOLD, text)


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
