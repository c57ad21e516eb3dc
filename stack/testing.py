"""`make test`, after lint and types: services up, Spark's tests in Spark's environment meanwhile, all others in ours, services as before.

pytest's summary is the last thing printed, and its exit code is ours.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

from stack import browser, processes
from stack.service import dependants, select
from stack.services import SERVICES, spark
from stack.settings import Settings
from stack.shell import shell_environment
from stack.supervisor import Supervisor

_SPARK_TESTS = "tests/spark_jobs"
_AT_ONCE = ("-n", "3", "--no-loadscope-reorder", "--durations", "30")
"""Three at once on two cores: most tests wait for a service. tests/conftest.py says what stays together, and what comes first."""


def run_tests(settings: Settings, pytest_arguments: Sequence[str]) -> int:
    """Runs the tests and stops what it started, also after a failure, Ctrl-C or SIGTERM; returns the first exit code that is not 0."""
    signal.signal(signal.SIGTERM, _interrupt)
    browser.ensure_browser()
    supervisor = Supervisor(settings)
    before = {service.name for service in SERVICES if supervisor.identity(service)}
    try:
        with ThreadPoolExecutor(1) as meanwhile:
            spark_tests = meanwhile.submit(_spark_tests, settings)
            supervisor.up(select(SERVICES, []))
            code, told = spark_tests.result()
        print(told)
        return code or _pytest(settings, *_AT_ONCE, "--ignore", _SPARK_TESTS, *pytest_arguments)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of them running
        quiet = Supervisor(settings, say=lambda line: None)
        quiet.down(service for service in dependants(SERVICES, []) if service.name not in before)


def _spark_tests(settings: Settings) -> tuple[int, str]:
    """Those of what runs in Spark alone, which need no service; pytest's exit code, and what it printed."""
    # what lies above that folder is written for the other environment
    done = subprocess.run(
        [*_pytest_of(settings, ".venv-spark"), "--confcutdir", _SPARK_TESTS, _SPARK_TESTS],
        env={**processes.base_environment(), **spark.environment(settings)},
        cwd=settings.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def _pytest(settings: Settings, *arguments: str) -> int:
    return subprocess.run(
        [*_pytest_of(settings, ".venv"), *arguments],
        env={**processes.base_environment(), **shell_environment(settings)},
        cwd=settings.root,
        check=False,
    ).returncode


def _pytest_of(settings: Settings, venv: str) -> list[str]:
    return [str(settings.root / venv / "bin" / "python"), "-m", "pytest"]


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
