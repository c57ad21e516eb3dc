"""The decisions' pages, by number."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[1] / "adr"


def markdown() -> str:
    """A list of links: the first line of each page is its title."""
    pages = sorted(_FOLDER.glob("[0-9]*.md"))
    return "\n".join(f"- [{page.read_text().splitlines()[0].lstrip('# ')}]({page.name})" for page in pages)
