"""Templates: every place is filled, or the file is not written."""

from pathlib import Path

import pytest

from stack.errors import SettingError
from stack.render import render


def test_places_are_filled(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("port: @PORT@\nmail: a@b.c\n")
    render(tmp_path / "in", tmp_path / "sub" / "out", {"PORT": 9042})
    assert (tmp_path / "sub" / "out").read_text() == "port: 9042\nmail: a@b.c\n"


def test_a_place_without_a_value_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("@NOBODY@")
    with pytest.raises(SettingError, match="NOBODY"):
        render(tmp_path / "in", tmp_path / "out", {})
    assert not (tmp_path / "out").exists()
