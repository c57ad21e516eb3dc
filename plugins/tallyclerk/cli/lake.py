"""What the commands show of the lake: receipts, in columns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tallyclerk.core.shown_text import one_line

if TYPE_CHECKING:
    from tallyclerk.core.receipt import Receipt

_CELL_WIDTH = 100
"""Longest text of a column; ``--output json`` has it whole."""


def receipts(uri: str, *, limit: int | None = None) -> list[Receipt]:
    """A table's receipts, newest first, of its last ``limit`` commits; none where the folder is no table."""
    from tallyclerk.sinks.lake_log import LakeLog
    from tallyclerk.sinks.lake_table import receipts_of

    return LakeLog(uri).look(lambda: receipts_of(uri, limit=limit)) or []


def print_table(heads: list[str], rows: Iterator[list[Any]]) -> None:
    """Plain columns: text to the left, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    print("  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip())
    for row in cells:
        line = (
            text.rjust(width) if text.replace(",", "").replace(".", "").isdigit() else text.ljust(width)
            for text, width in zip(row, widths, strict=True)
        )
        print("  ".join(line).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return one_line(value, _CELL_WIDTH)
