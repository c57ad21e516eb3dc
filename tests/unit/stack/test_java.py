"""Which Java is taken, among those that a machine has."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack import java
from stack.errors import ToolMissingError

Install = Callable[[str, str], str]


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """Makes a program that tells a version as Java does, on its error output."""

    def make(name: str, version: str) -> str:
        program = tmp_path / name / "bin" / "java"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-16' >&2\n")
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture(autouse=True)
def _ask_again() -> Iterator[None]:
    java.java.cache_clear()
    yield
    java.java.cache_clear()


@pytest.mark.parametrize(
    ("version", "major"), [("17.0.10", 17), ("21", 21), ("1.8.0_402", 8), ("17-ea", 17), ("none", None)]
)
def test_the_major_version_is_read_from_what_java_says(install: Install, version: str, major: int | None) -> None:
    assert java.java_version(install("jdk", version)) == major


def test_there_is_no_version_when_the_program_is_not_there(tmp_path: Path) -> None:
    assert java.java_version(str(tmp_path / "java")) is None


def test_the_first_java_17_is_taken_when_others_come_before(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [install("jdk21", "21.0.1"), install("jdk17", "17.0.9"), install("other17", "17.0.10")]
    monkeypatch.setattr(java, "candidates", lambda: iter(found))
    assert java.java() == found[1]
    assert java.java_home() == str(Path(found[1]).resolve().parents[1])


def test_what_was_found_is_named_when_there_is_no_java_17(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = install("jdk21", "21.0.1")
    monkeypatch.setattr(java, "candidates", lambda: iter([newer]))
    with pytest.raises(ToolMissingError, match=f"found: {newer} is 21.*apt install openjdk-17-jre-headless"):
        java.java()


def test_java_home_comes_first_when_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", "/chosen")
    assert next(java.candidates()) == "/chosen/bin/java"
