"""A lake of each test's own on the real HDFS, the warm session, and spark-submit."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest

from stack.settings import LOOPBACK, load_settings
from stack.shell import shell_environment
from tests.integration.spark.small_lake import SmallLake

ROOT = Path(__file__).resolve().parents[3]
LOCAL = "local[2]"  # a standalone executor is a second JVM
# code that is compiled for a few rows costs a quarter of the time; the applications of tests/system keep it
_FOR_FEW_ROWS = ("--conf", "spark.sql.codegen.wholeStage=false", "--conf", "spark.sql.codegen.factoryMode=NO_CODEGEN")


@pytest.fixture(scope="session")
def spark_environment() -> dict[str, str]:
    return {**os.environ, **shell_environment(load_settings())}


@pytest.fixture
def lake(spark_environment: dict[str, str]) -> Iterator[SmallLake]:
    import hdfs_native

    address = f"hdfs://127.0.0.1:{spark_environment['TALLYCLERK_HDFS_PORT']}"
    path = f"/data/test_spark_{uuid4().hex[:12]}"
    os.environ.setdefault("HADOOP_USER_NAME", "hdfs")
    yield SmallLake(address + path)
    hdfs_native.Client(address).delete(path, recursive=True)


class BatchSession:
    """The process of ``batch_session.py``."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [environment["PYSPARK_PYTHON"], str(Path(__file__).with_name("batch_session.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **environment,
                "PYSPARK_SUBMIT_ARGS": " ".join(("--master", LOCAL, *_FOR_FEW_ROWS, "pyspark-shell")),
                "PYTHONPATH": str(ROOT),
            },
        )

    def run(self, lake: SmallLake, first: str, last: str | None = None, *, only: str = "") -> dict[str, Any]:
        """What the session answers: ``receipts`` or ``error``."""
        return self.ask(lake, only=only, first=first, last=last or first)

    def ask(self, lake: SmallLake, *, only: str, **more: Any) -> dict[str, Any]:
        """One line to the session, and its answer; see ``batch_session.py``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"lake": lake.uri, "only": only, **more}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"the Spark session ended: {Path(self._log.name).read_text()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._log.close()


@pytest.fixture(scope="session")
def batch_session(
    spark_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BatchSession]:
    session = BatchSession(spark_environment, tmp_path_factory.mktemp("spark") / "session.log")
    yield session
    session.close()


@pytest.fixture
def submit(spark_environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start spark-submit of one of the jobs; what a failed test left running is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(job: str, *arguments: str, master: str = LOCAL) -> subprocess.Popen[str]:
        program = Path(spark_environment["SPARK_HOME"]) / "bin" / "spark-submit"
        environment = {key: value for key, value in spark_environment.items() if key != "PYTHONPATH"}
        started.append(
            subprocess.Popen(
                [str(program), "--master", master, *_FOR_FEW_ROWS, str(ROOT / "spark_jobs" / job), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


class Connect(Protocol):
    """The fixture's type: fields of a connection by its id."""

    def __call__(self, name: str, **fields: Any) -> None: ...


@pytest.fixture
def connect(spark_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Connect:
    """A worker's environment and its connections to the cluster and the lake; add others by calling it."""
    for name, value in spark_environment.items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, value)

    def add(name: str, **fields: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))

    ports = {name: int(spark_environment[f"TALLYCLERK_{name}_PORT"]) for name in ("SPARK_MASTER", "HDFS")}
    add("spark_default", conn_type="spark", host=f"spark://{LOOPBACK}", port=ports["SPARK_MASTER"])
    add("hdfs_default", conn_type="hdfs", host=LOOPBACK, extra={"rpc_port": ports["HDFS"]})
    return add


def receipts_of(stdout: str) -> list[dict[str, Any]]:
    """The receipts on the last line of a job's output."""
    mark, _, line = stdout.rstrip("\n").rsplit("\n", 1)[-1].partition(" ")
    assert mark == "TALLYCLERK_RECEIPTS", stdout[-500:]
    receipts: list[dict[str, Any]] = json.loads(line)
    return receipts
