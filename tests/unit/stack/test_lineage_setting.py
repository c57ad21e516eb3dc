"""Where OpenLineage's events go, by TALLYCLERK_LINEAGE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stack.errors import SettingError
from stack.services import airflow
from stack.settings import load_settings


def transport(folder: Path, *stated: str) -> dict[str, Any]:
    """What the provider is told, with the variable set to that, or not set."""
    variables = {"TALLYCLERK_ENV_FILE": str(folder / ".env"), **dict(zip(["TALLYCLERK_LINEAGE"], stated, strict=False))}
    return airflow.lineage_transport(load_settings(variables, root=folder))


def test_events_go_into_a_file_among_the_logs_when_nothing_is_set(tmp_path: Path) -> None:
    file = str(tmp_path / ".tallyclerk" / "logs" / "lineage.jsonl")
    assert transport(tmp_path) == {"type": "file", "log_file_path": file, "append": True}


def test_events_go_to_the_server_and_into_the_file_when_an_url_is_set(tmp_path: Path) -> None:
    found = transport(tmp_path, "http://127.0.0.1:5000")
    assert found["type"] == "composite"
    assert found["continue_on_failure"] is True
    assert found["transports"]["server"]["url"] == "http://127.0.0.1:5000"
    assert found["transports"]["file"] == transport(tmp_path)


def test_a_transport_is_taken_as_it_is_when_it_is_json(tmp_path: Path) -> None:
    assert transport(tmp_path, '{"type": "console"}') == {"type": "console"}


def test_no_transport_turns_the_provider_off_when_told_so(tmp_path: Path) -> None:
    assert transport(tmp_path, "off") == {}


@pytest.mark.parametrize("stated", ["marquez", "{}", '["file"]', '{"url": "http://127.0.0.1:5000"}'])
def test_it_is_refused_when_it_is_none_of_these(tmp_path: Path, stated: str) -> None:
    with pytest.raises(SettingError, match="TALLYCLERK_LINEAGE"):
        transport(tmp_path, stated)
