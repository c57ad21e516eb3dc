"""The commands that the documents tell people to give, in order, with what they show of the output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stack.settings import ROOT

PAGES = [ROOT / "README.md", *(ROOT / "docs" / "tutorial" / name for name in ("first-day.md", "repair.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Command:
    """One line of a ``sh`` block.

    :param shown: lines of the ``text`` block after it; ``…`` stands for anything, and so does more than one space.
    """

    page: str
    text: str
    shown: tuple[str, ...] = ()

    def absent(self, output: str) -> list[str]:
        """The shown lines that no line of the output begins with, or holds."""
        lines = [" ".join(line.split()) for line in output.splitlines()]
        return [line for line in self.shown if not any(re.search(_pattern(line), each) for each in lines)]


def _pattern(line: str) -> str:
    return ".*".join(re.escape(part.strip()) for part in line.split("…"))


def commands(path: Path) -> Iterator[Command]:
    """The page's commands; a ``text`` block belongs to the command before it."""
    found: list[Command] = []
    for kind, body in _BLOCK.findall(path.read_text()):
        if kind == "sh":
            found += [Command(path.name, line.strip()) for line in body.splitlines() if line.strip()]
        elif kind == "text":
            last = found.pop()
            found.append(Command(last.page, last.text, tuple(line.strip() for line in body.splitlines())))
    yield from found
