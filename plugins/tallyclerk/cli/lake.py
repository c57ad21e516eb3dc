"""What the commands need of the lake: its tables and their receipts."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tallyclerk.exceptions import ServiceUnavailableError, SpecError
from tallyclerk.hooks.lake import LakeHook
from tallyclerk.sinks.lake_zones import ZONES, tables

if TYPE_CHECKING:
    from tallyclerk.core.receipt import Receipt

__all__ = ["ZONES", "connections", "lake_root", "one_line", "print_table", "receipts", "tables"]

_CELL_WIDTH = 100
"""Longest text of a column; ``--output json`` has it whole."""


@contextmanager
def connections() -> Iterator[None]:
    """Let hooks read connections from Airflow's secrets backends and database, as its own server components do.

    Outside a task a hook would otherwise see environment variables only.

    :raises SpecError: a connection that is asked for does not exist.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException

    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        yield
    except AirflowNotFoundException as missing:
        raise SpecError(f"{missing}; run `airflow tallyclerk load-settings`.") from None


def lake_root() -> str:
    """The URI of the lake that answers.

    :raises ServiceUnavailableError: nobody listens there. Its client would try again for minutes; a person at a terminal
        is told at once.
    """
    with connections():
        root = LakeHook().root
    address = urlsplit(root)
    try:
        socket.create_connection((address.hostname or "", address.port or 8020), timeout=5).close()
    except OSError as error:
        raise ServiceUnavailableError(service="HDFS", address=root, cause=error) from error
    return root


def receipts(uri: str, *, limit: int | None = None) -> list[Receipt]:
    """A table's receipts, newest first, of its last ``limit`` commits; none where the folder is no table yet."""
    from deltalake.exceptions import TableNotFoundError

    from tallyclerk.sinks.lake_table import receipts_of

    try:
        return receipts_of(uri, limit=limit)
    except TableNotFoundError:
        return []


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


def one_line(value: object, longest: int) -> str:
    """As text to be shown: a record's own may hold line breaks, control characters, or a whole file."""
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
