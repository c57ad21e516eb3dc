"""A damaged message of a topic, from its rejection to its row, by the commands and the real scheduler."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import processes
from stack.settings import ROOT, Settings
from stack.shell import shell_environment
from tests.integration.kafka.replay_case import DATE, ReplayCase, replay_case
from tests.running import RunTask
from tests.system.reading_api import ReadingApi
from tests.system.test_quarantine_replay import REPLAY

pytestmark = [pytest.mark.system, pytest.mark.long]

_COMMAND_LIMIT_SECONDS = 600


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayCase]:
    with replay_case(tmp_path, monkeypatch) as made:
        yield made


def quarantine(settings: Settings, *words: str) -> str:
    """What the command prints; it has to succeed."""
    done = subprocess.run(
        [ROOT / ".venv/bin/airflow", "tallyclerk", "quarantine", *words],
        env={**processes.base_environment(), **shell_environment(settings)}, cwd=ROOT, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=_COMMAND_LIMIT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_row_is_there_once_when_a_damaged_message_is_exported_mended_and_replayed_twice(
    case: ReplayCase, api: ReadingApi, settings: Settings, run_task: RunTask, tmp_path: Path
) -> None:
    assert processes.wait_until(lambda: api.has_dag(REPLAY), 120), api.import_errors()
    case.load_with_a_damaged_message(run_task)

    edited = tmp_path / "rejects.jsonl"
    quarantine(settings, "export", case.name, "--date", DATE, str(edited))
    text = edited.read_text(encoding="utf-8")
    assert text.count("many") == 2  # in the message, and in what is said of it
    edited.write_text(text.replace("many", "2.00", 1), encoding="utf-8")
    known = {run["dag_run_id"] for run in api.runs(REPLAY)}
    for _ in range(2):
        quarantine(settings, "replay", case.name, "--date", DATE, "--corrections", str(edited))

    again, first = (run for run in api.runs(REPLAY) if run["dag_run_id"] not in known)
    assert first["conf"]["dataset"] == case.name
    assert api.task_states(REPLAY, first["dag_run_id"]) == {
        "record_corrections": "skipped", "load_the_day": "skipped", "ledger_closes": "skipped", "send_messages": "success",
    }  # fmt: skip
    told = api.xcom(REPLAY, first["dag_run_id"], "send_messages")
    assert told["sent"].keys() == {f"{case.name}/0:1"}
    assert api.xcom(REPLAY, again["dag_run_id"], "send_messages") == told
    assert f"replayed as {told['sent'][f'{case.name}/0:1']}" in quarantine(settings, "list", "--dataset", case.name)

    case.assert_mended(run_task)
