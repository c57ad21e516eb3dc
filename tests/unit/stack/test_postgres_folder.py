"""Where PostgreSQL's files go when the stack is started by root."""

import os
from pathlib import Path

import pytest

from stack.services import postgres
from stack.settings import Settings, load_settings


def settings_in(folder: Path) -> Settings:
    return load_settings({}, root=folder, make_secrets=False)


def test_a_folder_that_only_its_owner_may_enter_is_recognised(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not postgres.enterable_by_others(closed / "below")


def test_root_moves_the_files_when_the_server_could_not_reach_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(postgres, "enterable_by_others", lambda path: False)
    here, there = (postgres.home(settings_in(tmp_path / name)) for name in ("a", "b"))
    assert here.parent == Path("/var/lib")
    assert here != there


def test_an_ordinary_user_keeps_them_in_the_stacks_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert postgres.home(settings_in(tmp_path)).is_relative_to(tmp_path)
    assert postgres.as_server_user(["postgres"]) == ["postgres"]
