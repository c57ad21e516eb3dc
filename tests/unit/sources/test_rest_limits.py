"""Pace and waits, by a clock of the test's own."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from tallyclerk.sources.rest_limits import TokenBucket, retry_after_seconds, retry_wait_seconds

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def bucket(per_second: float, clock: Clock, *, burst: int = 1) -> TokenBucket:
    return TokenBucket(per_second, burst=burst, clock=clock, sleep=clock.sleep)


def test_calls_keep_the_pace_when_they_come_at_once() -> None:
    clock = Clock()
    limit = bucket(4.0, clock)
    for _ in range(21):
        limit.take()
    assert clock.now - 100.0 == pytest.approx(20 / 4)


def test_no_call_waits_when_calls_are_slower_than_the_pace() -> None:
    clock = Clock()
    limit = bucket(4.0, clock)
    waits = []
    for _ in range(5):
        waits.append(limit.take())
        clock.now += 0.3
    assert waits == [0.0] * 5


def test_unused_calls_are_saved_up_to_the_burst() -> None:
    clock = Clock()
    limit = bucket(1.0, clock, burst=3)
    clock.now += 1000
    assert [limit.take() for _ in range(4)] == [0.0, 0.0, 0.0, pytest.approx(1.0)]


def test_nothing_is_limited_when_no_rate_is_given() -> None:
    clock = Clock()
    limit = bucket(0.0, clock)
    assert {limit.take() for _ in range(100)} == {0.0}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("0", 0.0),
        ("120", 120.0),
        ("-5", 0.0),
        (format_datetime(datetime(2026, 3, 10, 12, 0, 30, tzinfo=UTC), usegmt=True), 30.0),
        (format_datetime(datetime(2026, 3, 10, 11, tzinfo=UTC), usegmt=True), 0.0),
        ("Tue, 10-Mar-26 12:00:05 GMT", 5.0),
    ],
)
def test_retry_after_is_read_as_http_states_it(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


@pytest.mark.parametrize("asked", [None, 0.0])
def test_waits_grow_from_the_floor_when_the_server_names_none(asked: float | None) -> None:
    for _ in range(50):
        waits = [
            retry_wait_seconds(failures, asked, floor_seconds=0.5, longest_seconds=30) for failures in range(1, 12)
        ]
        assert min(waits) >= 0.5
        assert max(waits) <= 30
        assert waits[-1] >= 15 > 1.0 >= waits[0]


def test_the_wait_is_what_the_server_asks_for_and_little_more() -> None:
    assert all(7.0 <= retry_wait_seconds(9, 7.0) <= 7.7 for _ in range(50))
    assert all(0.5 <= retry_wait_seconds(1, 0.001, floor_seconds=0.5) <= 0.55 for _ in range(50))
