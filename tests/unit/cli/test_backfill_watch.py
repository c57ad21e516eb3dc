"""Waiting for runs: exit codes, progress, patience."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from tallyclerk.cli.backfill_watch import ProgressLine, Tally, duration, time_left, watch


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("total", "states", "finished", "code"),
    [
        (3, {"success": 3}, True, 0),
        (3, {"success": 2, "failed": 1}, True, 1),
        (3, {"success": 2}, True, 1),  # one was deleted: that is no success
        (3, {"success": 2, "running": 1}, False, 1),
        (3, {"success": 2, "queued": 1}, False, 1),
        (3, {"failed": 3}, True, 1),
    ],
)
def test_the_exit_code_is_0_only_when_every_run_succeeded(
    total: int, states: dict[str, int], finished: bool, code: int
) -> None:
    tally = Tally.of(total, states)
    assert (tally.is_finished, tally.exit_code) == (finished, code)


def test_the_tally_names_only_what_there_is() -> None:
    assert str(Tally.of(5, {"success": 2, "failed": 1, "running": 1})) == "4/5 done, 1 failed, 1 running, 1 deleted"
    assert str(Tally.of(2, {"success": 2})) == "2/2 done"


def test_the_time_left_follows_the_rate_since_the_start() -> None:
    assert time_left(0, Tally.of(4, {"queued": 4}), 10) is None
    assert time_left(2, Tally.of(6, {"success": 2, "queued": 4}), 10) is None  # those were done before
    assert time_left(2, Tally.of(6, {"success": 4, "queued": 2}), 10) == 10


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def run_watch(stream: io.StringIO, tallies: Iterator[Tally], reason: str | None = None) -> Tally:
    clock = Clock()
    return watch(lambda: next(tallies), lambda: reason, ProgressLine(stream), clock=clock, sleep=clock.sleep)


def waiting(polls: int) -> Iterator[Tally]:
    yield from [Tally.of(2, {"queued": 2})] * polls
    yield Tally.of(2, {"success": 2})


def test_lines_are_few_and_plain_when_nobody_watches() -> None:
    stream = io.StringIO()
    assert run_watch(stream, waiting(60)).exit_code == 0
    lines = stream.getvalue().splitlines()
    assert lines[0] == "0/2 done, 2 queued | 0 s"
    assert lines[-1] == "2/2 done | 2 min 00 s"
    assert len(lines) == 3  # and one sign of life in two minutes
    assert "\x1b" not in stream.getvalue()


def test_the_line_is_rewritten_in_place_on_a_terminal() -> None:
    stream = Terminal()
    run_watch(stream, waiting(3))
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().count("\r\x1b[2K") == 4


def test_the_line_says_why_nothing_moves() -> None:
    stream = io.StringIO()
    run_watch(stream, waiting(1), "no scheduler is alive: start it")
    assert stream.getvalue().splitlines() == [
        "0/2 done, 2 queued | 0 s | no scheduler is alive: start it",
        "2/2 done | 2 s",
    ]


def outage(polls: int) -> Iterator[Tally | Exception]:
    yield Tally.of(1, {"running": 1})
    yield from [ConnectionError("away")] * polls
    yield Tally.of(1, {"success": 1})


def watch_outage(polls: int) -> Tally:
    clock, answers = Clock(), outage(polls)

    def read() -> Tally:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return watch(
        read,
        lambda: None,
        ProgressLine(io.StringIO()),
        transient_errors=(ConnectionError,),
        clock=clock,
        sleep=clock.sleep,
    )


def test_watching_goes_on_when_the_database_was_away_for_a_while() -> None:
    assert watch_outage(100).exit_code == 0


def test_watching_ends_when_the_database_stays_away() -> None:
    with pytest.raises(ConnectionError):
        watch_outage(400)
