"""Progress of a long load: rows, rate and time left, in few lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable


class Progress:
    """Logs at most one line every ``every_seconds``, and one at the end.

    :param total: expected rows, 0 when unknown (no time left is then given).
    """

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        *,
        total: int = 0,
        every_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._what, self._total, self._every, self._clock = log, what, total, every_seconds, clock
        self._rows = 0
        self._started = self._last = clock()

    def add(self, rows: int) -> None:
        self._rows += rows
        now = self._clock()
        if now - self._last >= self._every:
            self._last = now
            self._log.info("%s: %s", self._what, self._line(now))

    def done(self) -> None:
        self._log.info("%s: done, %s", self._what, self._line(self._clock(), final=True))

    def _line(self, now: float, *, final: bool = False) -> str:
        seconds = max(now - self._started, 1e-9)
        rate = self._rows / seconds
        line = f"{self._rows:,} rows in {seconds:.1f} s, {rate:,.0f} rows/s"
        if self._total and not final and rate > 0:
            left = max(self._total - self._rows, 0)
            line += f", {100 * self._rows / self._total:.0f} %, about {left / rate:.0f} s left"
        return line
