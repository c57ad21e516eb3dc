"""Slots for the jobs of tests, beside those that the pipeline's own jobs take where the stream runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from stack import processes
from stack.services import flink
from stack.settings import load_settings

_SLOTS_NEEDED = 2
_LIMIT_SECONDS = 300
_NAME = "flink-taskmanager-of-tests"


@pytest.fixture(scope="session", autouse=True)
def slots() -> Iterator[None]:
    """Two slots are free; one more TaskManager serves while the tests run where they are not."""
    settings = load_settings()

    def free() -> int:
        return int(httpx.get(f"{flink.url(settings)}/overview", trust_env=False, timeout=60).json()["slots-available"])

    if free() >= _SLOTS_NEEDED:
        yield
        return
    folder = settings.data / "flink" / "tmp" / _NAME
    folder.mkdir(parents=True, exist_ok=True)
    with (settings.logs / f"{_NAME}.log").open("ab") as log:
        process = subprocess.Popen(
            flink.taskmanager_command(settings, _NAME),
            env={**os.environ},
            cwd=folder,  # Flink takes `plugins` where it stands for its own
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        assert processes.wait_until(lambda: free() >= _SLOTS_NEEDED, _LIMIT_SECONDS), f"see {log.name}"
        yield
    finally:
        process.terminate()
        process.wait(_LIMIT_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
