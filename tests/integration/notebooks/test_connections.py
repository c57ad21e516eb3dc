"""The notebook runs from top to bottom against the stack that is up: its cells in one process, in their order, without a kernel."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import yaml

from stack.processes import base_environment
from stack.settings import ROOT, load_settings

pytestmark = [pytest.mark.integration, pytest.mark.long]

NOTEBOOK = ROOT / "include" / "notebooks" / "connections.ipynb"


def cells() -> list[str]:
    document = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def run(program: str) -> subprocess.CompletedProcess[str]:
    # a kernel starts with nothing of the stack in its environment but where it is
    settings = load_settings()
    environ = {**base_environment(), **{name: text for name, text in settings.variables().items() if text}}
    return subprocess.run(
        [sys.executable, "-"],
        input=program,
        env=environ,
        cwd=NOTEBOOK.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_connection_answers_when_the_notebook_runs() -> None:
    done = run("\n".join(cells()))
    assert done.returncode == 0, done.stderr[-3000:]
    wanted = [
        each["conn_id"]
        for each in yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]["connections"]
    ]
    for conn_id in wanted:
        assert any(line.startswith(f"{conn_id} ") for line in done.stdout.splitlines())


def test_a_cell_fails_when_its_service_is_elsewhere() -> None:
    setup, *others = cells()
    away = 'os.environ["AIRFLOW_CONN_SHOP_DB"] = \'{"conn_type": "postgres", "host": "127.0.0.1", "port": 1}\''
    (sources,) = [cell for cell in others if "RelationalHook" in cell]
    done = run("\n".join([setup, away, sources]))
    assert done.returncode != 0
    assert "OperationalError" in done.stderr


def test_the_notebook_is_committed_without_results() -> None:
    document = json.loads(NOTEBOOK.read_text())
    assert not [cell for cell in document["cells"] if cell.get("outputs") or cell.get("execution_count")]
