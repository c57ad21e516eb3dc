"""Killing the task ends its application: on the cluster, and the driver's processes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from stack.health import get_json
from stack.settings import LOOPBACK
from tallyclerk.exceptions import SparkApplicationLostError
from tallyclerk.hooks.spark_application import SparkApplicationHook
from tests.integration.spark.conftest import Connect

pytestmark = pytest.mark.integration
PATIENCE_SECONDS = 600


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} within {PATIENCE_SECONDS} s"
        time.sleep(0.5)


def test_nothing_of_the_application_is_left_when_the_task_is_killed(
    connect: Connect, spark_environment: dict[str, str], tmp_path: Path
) -> None:
    name, job = f"test kill {uuid4().hex[:12]}", tmp_path / f"sleeper_{uuid4().hex[:12]}.py"
    job.write_text(
        f"import time\nfrom pyspark.sql import SparkSession\nSparkSession.builder.appName({name!r}).getOrCreate()\n"
        "time.sleep(3600)\n"
    )
    master = f"http://{LOOPBACK}:{spark_environment['TALLYCLERK_SPARK_UI_PORT']}/json/"

    def is_on_the_cluster(expected: bool) -> bool:
        state = get_json(master)  # None when the master is too busy to answer
        return state is not None and (name in [active["name"] for active in state["activeapps"]]) == expected

    def processes() -> list[int]:
        return [each.pid for each in psutil.process_iter(["cmdline"]) if str(job) in (each.info["cmdline"] or [])]

    hook = SparkApplicationHook(name=name)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(hook.run, str(job))
        wait_until(lambda: is_on_the_cluster(True), "the application is registered")
        assert len(processes()) >= 2  # the JVM and the driver's Python

        hook.on_kill()

        with pytest.raises(SparkApplicationLostError):
            run.result(timeout=PATIENCE_SECONDS)
    wait_until(lambda: is_on_the_cluster(False) and not processes(), "everything of it is gone")
