"""What an application's output and exit code become. A script stands in for spark-submit; the real one is in tests/integration/spark."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tallyclerk.exceptions import (
    ConcurrentLoadError,
    SparkApplicationLostError,
    SparkJobError,
    SpecError,
    TallyclerkError,
)
from tallyclerk.hooks.spark_application import SparkApplicationHook

VERDICT = "2026-03-01 10:00:00,000 ERROR spark_jobs.failures 2 of 3 records were rejected\n  a.csv:2: id type: 'x'\n"
Submit = Callable[[str], SparkApplicationHook]


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submit:
    """A hook whose spark-submit is a shell script of that text."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", "host": "local"}))

    def make(script: str) -> SparkApplicationHook:
        program = tmp_path / "spark-submit"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        return SparkApplicationHook(name="load_csv sales@2026-03-01")

    return make


def test_the_receipts_are_returned_when_the_application_hands_them_over(submit: Submit) -> None:
    hook = submit("""echo WARN something; echo 'TALLYCLERK_RECEIPTS [{"dataset":"sales"}]'; echo INFO bye""")
    assert hook.run("job.py") == [{"dataset": "sales"}]


def test_no_receipt_is_made_up_when_a_log_message_tears_the_line(submit: Submit) -> None:
    assert submit("""echo 'TALLYCLERK_RECEIPTS [{"dataset":"saWARN'; echo 'les"}]'""").run("job.py") == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (2, SpecError),
        (64, SpecError),
        (65, SparkJobError),
        (75, ConcurrentLoadError),
        (1, SparkApplicationLostError),
        (137, SparkApplicationLostError),
    ],
)
def test_the_exit_code_says_whether_a_retry_helps(submit: Submit, code: int, kind: type[TallyclerkError]) -> None:
    hook = submit(f"cat <<'END'\nnoise\n{VERDICT}more noise\nEND\nexit {code}")
    with pytest.raises(kind) as raised:
        hook.run("job.py")
    assert type(raised.value) is kind
    assert "2 of 3 records were rejected\n  a.csv:2: id type: 'x'" in str(raised.value)
    assert "noise" not in str(raised.value)


def test_the_end_of_the_output_is_told_when_there_is_no_verdict(submit: Submit) -> None:
    with pytest.raises(SparkApplicationLostError, match=r"exit code 1 (.|\n)*java.lang.OutOfMemoryError"):
        submit("echo java.lang.OutOfMemoryError; exit 1").run("job.py")


def test_cluster_mode_is_refused_when_the_connection_asks_for_it(
    submit: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"conn_type": "spark", "host": "local", "extra": {"deploy-mode": "cluster"}}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(facts))
    with pytest.raises(SpecError, match="deploy-mode cluster"):
        submit("exit 0").run("job.py")


def test_the_application_is_asked_to_end_before_it_is_killed(submit: Submit, tmp_path: Path) -> None:
    started, ended = tmp_path / "started", tmp_path / "ended"
    # `exec` as spark-submit does: the process that is signalled is the one that works
    hook = submit(
        f'exec python3 -c "import signal, sys, time, pathlib\n'
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path('{ended}').touch(), sys.exit(143)))\n"
        f"pathlib.Path('{started}').touch()\ntime.sleep(600)\""
    )

    def kill() -> None:
        deadline = time.monotonic() + 60
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        hook.on_kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SparkApplicationLostError):
        hook.run("job.py")
    killer.join()
    assert ended.exists()
