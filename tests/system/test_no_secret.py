"""The generated secrets stand in `.env` and nowhere that a day's runs, a log's reader or a clone can see."""

from __future__ import annotations

import json
import subprocess

import pytest

from stack.settings import ROOT, Settings
from tests.system.conftest import DayRuns
from tests.system.reading_api import ReadingApi

pytestmark = pytest.mark.system

_NEWEST_XCOMS = 300


def secrets_in(text: bytes, settings: Settings) -> list[str]:
    """Names, never values: an assertion's message is printed."""
    return [name for name, secret in settings.secrets.items() if secret.encode() in text]


@pytest.fixture(autouse=True)
def _after_the_run(triggered: DayRuns) -> None:
    """What is searched holds the traces of this session's runs."""


def test_every_secret_is_long_enough_to_be_searched_for(settings: Settings) -> None:
    assert {name for name, secret in settings.secrets.items() if len(secret) < 32} == set()


def test_no_secret_is_in_a_file_that_git_tracks(settings: Settings) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    found = {str(path): secrets_in(path.read_bytes(), settings) for path in paths if path.is_file()}
    assert "dags/retail_daily.py" in listed.decode()
    assert {path: names for path, names in found.items() if names} == {}


def test_no_secret_is_in_a_log(settings: Settings, triggered: DayRuns) -> None:
    found = {str(path): secrets_in(path.read_bytes(), settings) for path in settings.logs.rglob("*") if path.is_file()}
    for run_id in triggered.states:
        assert any(run_id in path for path in found), "the run's own logs are not among those searched"
    assert {path: names for path, names in found.items() if names} == {}


def test_no_secret_is_in_an_xcom(settings: Settings, api: ReadingApi, triggered: DayRuns) -> None:
    found = {}
    for entry in api.xcom_keys(limit=_NEWEST_XCOMS):
        where = (entry["dag_id"], entry["run_id"], entry["task_id"], entry["key"], entry["map_index"])
        found[where] = secrets_in(json.dumps(api.xcom(*where)).encode(), settings)
    assert set(triggered.states) <= {run_id for _, run_id, *_ in found}
    assert {where: names for where, names in found.items() if names} == {}
