"""How far the engine is with a CSV file, for a log that a person watches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tallyclerk.core.progress import Progress

if TYPE_CHECKING:
    import duckdb

    from tallyclerk.sources.landing_file import LandingFile

Tell = Callable[[int], None]
"""Is told how many lines of a file have been read."""

log = logging.getLogger(__name__)


@contextmanager
def told_progress(
    connection: duckdb.DuckDBPyConnection, file: LandingFile, *, every_seconds: float = 5.0
) -> Iterator[Tell]:
    """Log lines, rate and time left every ``every_seconds`` while the body reads ``file``, and one line at the end.

    The engine is asked from a second thread, as one statement reads the whole file; another reader tells by itself. A further look at
    the same file is told from where the one before it ended.
    """
    connection.execute("SET enable_progress_bar = true")  # without it the engine does not count
    connection.execute("SET enable_progress_bar_print = false")
    progress = Progress(log, file.uri, total=file.lines, every_seconds=every_seconds)
    over = threading.Event()
    lines = 0

    def tell(now: int) -> None:
        nonlocal lines
        if now > lines:
            progress.add(now - lines)
            lines = now

    def watch() -> None:
        while not over.wait(every_seconds):
            tell(int(max(connection.query_progress(), 0.0) / 100 * file.lines))  # negative: nothing runs

    thread = threading.Thread(target=watch, name="tallyclerk-progress", daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        over.set()
        thread.join()
    progress.add(file.lines - lines)
    progress.done()
