"""`make test`, after lint and types: services up, Spark's tests in Spark's environment, all others in ours, services as before.

pytest's summary is the last thing printed, and its exit code is ours.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

from stack import browser, processes
from stack.service import dependants, select
from stack.services import SERVICES
from stack.settings import Settings
from stack.shell import shell_environment
from stack.supervisor import Supervisor

_SPARK_TESTS = "tests/spark_jobs"
_NO_TESTS = 5  # pytest's exit code
_AT_ONCE = ("-n", "2", "--no-loadscope-reorder", "--durations", "30")
"""Two at once: most tests wait for a service. tests/conftest.py says what stays together, and what comes first."""


def run_tests(settings: Settings, pytest_arguments: Sequence[str]) -> int:
    """Runs the tests and stops what it started, also after a failure, Ctrl-C or SIGTERM; returns the first exit code that is not 0."""
    signal.signal(signal.SIGTERM, _interrupt)
    browser.ensure_browser()
    supervisor = Supervisor(settings)
    before = {service.name for service in SERVICES if supervisor.identity(service)}
    try:
        supervisor.up(select(SERVICES, []))
        return _spark_tests(settings) or _pytest(
            settings, ".venv", *_AT_ONCE, "--ignore", _SPARK_TESTS, *pytest_arguments
        )
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them running
        quiet = Supervisor(settings, say=lambda line: None)
        quiet.down(service for service in dependants(SERVICES, []) if service.name not in before)


def _spark_tests(settings: Settings) -> int:
    if not (settings.root / _SPARK_TESTS).exists():
        return 0
    # what lies above that folder is written for the other environment
    code = _pytest(settings, ".venv-spark", "--confcutdir", _SPARK_TESTS, _SPARK_TESTS)
    return 0 if code == _NO_TESTS else code


def _pytest(settings: Settings, venv: str, *arguments: str) -> int:
    return subprocess.run(
        [str(settings.root / venv / "bin" / "python"), "-m", "pytest", *arguments],
        env={**processes.base_environment(), **shell_environment(settings)},
        cwd=settings.root,
        check=False,
    ).returncode


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
