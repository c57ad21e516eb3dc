"""A pid file names one process: no zombie, no later process with the same pid."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from stack import processes
from stack.processes import Identity

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(SLEEPER)
    yield child
    child.kill()
    child.wait()


def identity_of(child: subprocess.Popen[bytes]) -> Identity:
    return Identity(child.pid, psutil.Process(child.pid).create_time())


def start(tmp_path: Path, command: list[str], mark: str) -> tuple[Identity, subprocess.Popen[bytes]]:
    return processes.start(
        command,
        mark=mark,
        environment=dict(os.environ),
        log=tmp_path / "log",
        pid_file=tmp_path / "it.pid",
        folder=tmp_path,
    )


def test_a_running_process_is_known_again(sleeper: subprocess.Popen[bytes]) -> None:
    assert identity_of(sleeper).process() is not None


def test_a_zombie_does_not_count_as_running(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper)
    sleeper.kill()
    assert processes.wait_until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE, 30)
    os.kill(sleeper.pid, 0)  # the test that a shell script would make still answers
    assert identity.process() is None


def test_another_process_with_the_same_pid_is_not_ours(sleeper: subprocess.Popen[bytes]) -> None:
    former = Identity(sleeper.pid, psutil.Process(sleeper.pid).create_time() - 60)
    assert former.process() is None


def test_a_pid_that_is_gone_is_not_running(sleeper: subprocess.Popen[bytes]) -> None:
    identity = identity_of(sleeper)
    sleeper.kill()
    sleeper.wait()
    assert identity.process() is None


@pytest.mark.parametrize("text", ["", "1234", "{}", '{"pid": "x", "started": 1}', "[]"])
def test_a_damaged_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    pid_file = tmp_path / "it.pid"
    pid_file.write_text(text)
    assert processes.running(pid_file) is None


def test_start_writes_a_pid_file_that_finds_the_process(tmp_path: Path) -> None:
    identity, child = start(tmp_path, SLEEPER, f"{tmp_path}:it")
    assert processes.running(tmp_path / "it.pid") == identity
    assert processes.stop(identity, mark=f"{tmp_path}:it", stop_signal=15, grace_seconds=30)
    child.wait()
    assert processes.running(tmp_path / "it.pid") is None


def test_stop_ends_children_that_outlived_the_process(tmp_path: Path) -> None:
    mark = f"{tmp_path}:it"
    parent = [
        sys.executable,
        "-c",
        f"import subprocess; subprocess.Popen({SLEEPER}); print('ready', flush=True); input()",
    ]
    identity, child = start(tmp_path, parent, mark)
    child.wait(60)  # its input is empty: it ends at once and leaves its child behind
    assert len(processes.marked(mark)) == 1
    assert processes.stop(identity, mark=mark, stop_signal=15, grace_seconds=30)
    assert processes.marked(mark) == []


def test_stop_kills_what_ignores_the_signal(tmp_path: Path) -> None:
    mark = f"{tmp_path}:it"
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    identity, child = start(tmp_path, [sys.executable, "-c", stubborn], mark)
    assert processes.wait_until(lambda: "ready" in (tmp_path / "log").read_text(), 60)
    assert not processes.stop(identity, mark=mark, stop_signal=15, grace_seconds=0.3)
    child.wait()
    assert identity.process() is None


def test_services_do_not_inherit_what_would_lead_them_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "SequentialExecutor")
    monkeypatch.setenv("SPARK_HOME", "/elsewhere")
    inherited = processes.base_environment()
    assert not {"AIRFLOW__CORE__EXECUTOR", "SPARK_HOME"} & set(inherited)
