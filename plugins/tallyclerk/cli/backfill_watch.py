"""Wait for runs and show how far they are. Knows nothing of Airflow but the names of the run states."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TextIO

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK

POLL_INTERVAL_SECONDS = 2.0
LINE_INTERVAL_SECONDS = 5.0  # the least time between two lines where lines cannot be rewritten
QUIET_INTERVAL_SECONDS = 60.0  # the most, even when nothing changes
UNREACHABLE_LIMIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of ``total`` runs are in which state; those in no known state were deleted."""

    total: int
    success: int = 0
    failed: int = 0
    running: int = 0
    queued: int = 0

    @classmethod
    def of(cls, total: int, states: Mapping[str, int]) -> Tally:
        """Read counts by state name."""
        return cls(total, **{name: states.get(name, 0) for name in ("success", "failed", "running", "queued")})

    @property
    def deleted(self) -> int:
        """Runs that are no longer in the database."""
        return self.total - self.success - self.failed - self.running - self.queued

    @property
    def done(self) -> int:
        """Runs that will not change any more."""
        return self.total - self.running - self.queued

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.done == self.total

    @property
    def exit_code(self) -> int:
        """0 when every run succeeded, else 1: a deleted run is not a success."""
        return EXIT_OK if self.success == self.total else EXIT_FAILED

    def __str__(self) -> str:
        parts = [f"{self.done}/{self.total} done"]
        for name in ("failed", "running", "queued", "deleted"):
            if count := getattr(self, name):
                parts.append(f"{count} {name}")
        return ", ".join(parts)


def time_left(done_at_start: int, tally: Tally, elapsed_seconds: float) -> float | None:
    """Estimate the seconds left from the rate since the start; None until a run has finished."""
    finished = tally.done - done_at_start
    return elapsed_seconds / finished * (tally.total - tally.done) if finished > 0 else None


def duration(seconds: float) -> str:
    """Format seconds for people: 42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class ProgressLine:
    """One line that is rewritten in place on a terminal, and seldom printed anew elsewhere."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._in_place = stream.isatty()
        self._last_text = ""
        self._last_time = float("-inf")

    def show(self, text: str, subject: object, now: float, *, at_once: bool = False) -> None:
        """Show ``text``; without a terminal only if ``subject`` has changed, or to give a sign of life."""
        if self._in_place:
            width = shutil.get_terminal_size().columns - 1
            self._stream.write(f"\r\x1b[2K{text[:width]}")
        else:
            changed = str(subject) != self._last_text
            if not at_once and now - self._last_time < (LINE_INTERVAL_SECONDS if changed else QUIET_INTERVAL_SECONDS):
                return
            self._stream.write(f"{text}\n")
            self._last_text, self._last_time = str(subject), now
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        if self._in_place:
            self._stream.write("\n")
            self._stream.flush()


def watch(
    read_tally: Callable[[], Tally],
    hold_up: Callable[[], str | None],
    line: ProgressLine,
    *,
    transient_errors: tuple[type[Exception], ...] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Tally:
    """Wait until every run is done, and return the last tally.

    :param hold_up: tells why nothing moves, to be shown in the line.
    :param transient_errors: raised by the two readers while the database is away; raised on after ten minutes of that.
    """
    started = reached = clock()
    done_at_start: int | None = None
    try:
        while True:
            try:
                tally, reason = read_tally(), hold_up()
            except transient_errors:
                if clock() - reached > UNREACHABLE_LIMIT_SECONDS:
                    raise
                line.show("Airflow's database does not answer; trying again", "unreachable", clock())
                sleep(POLL_INTERVAL_SECONDS)
                continue
            now = reached = clock()
            done_at_start = tally.done if done_at_start is None else done_at_start
            left = time_left(done_at_start, tally, now - started)
            parts = [str(tally), duration(now - started)]
            if left is not None and not tally.is_finished:
                parts.append(f"about {duration(left)} left")
            if reason and not tally.is_finished:
                parts.append(reason)
            line.show(" | ".join(parts), (tally, reason), now, at_once=tally.is_finished)
            if tally.is_finished:
                return tally
            sleep(POLL_INTERVAL_SECONDS)
    finally:
        line.close()
