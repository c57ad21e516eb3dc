"""A load's window: half-open, named, and found by one rule."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from tallyclerk.core.window import Window, resolve_window
from tallyclerk.exceptions import SpecError

START, END = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC)
RUN_AFTER = datetime(2026, 6, 11, 0, 30, tzinfo=UTC)


def resolve(**given: object) -> str:
    facts = {"conf": None, "partition_key": None, "data_interval_start": None, "data_interval_end": None}
    return resolve_window(**{**facts, "run_after": RUN_AFTER, **given}).key  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"conf": {"date": "2026-01-05"}, "partition_key": "2026-02-06"}, "2026-01-05"),
        (
            {
                "conf": {"window_start": "2026-01-05T00:00:00+00:00", "window_end": "2026-01-05T06:00:00+00:00"},
                "partition_key": "2026-02-06",
            },
            "2026-01-05T00:00:00+00:00/2026-01-05T06:00:00+00:00",
        ),
        ({"partition_key": "2026-02-06", "data_interval_start": START, "data_interval_end": END}, "2026-02-06"),
        ({"conf": {"other": 1}, "data_interval_start": START, "data_interval_end": END}, "2026-03-01"),
        ({"data_interval_start": START, "data_interval_end": START}, "2026-06-10"),
        ({}, "2026-06-10"),
        # 23:30 on the 10th in UTC, already the 11th where it was triggered
        ({"run_after": datetime(2026, 6, 11, 1, 30, tzinfo=timezone(timedelta(hours=2)))}, "2026-06-09"),
    ],
)
def test_window_comes_from_the_first_that_is_given_when_resolved(given: dict, key: str):
    assert resolve(**given) == key


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"date": "2026-01-05", "window_end": "2026-01-06"}, "give one of them"),
        ({"window_start": "2026-01-05"}, "only one of"),
        ({"window_end": "2026-01-05"}, "only one of"),
        ({"date": "5.1.2026"}, "is not a date"),
        ({"date": None}, "is not a date"),
        ({"window_start": "noon", "window_end": "2026-01-06"}, "is not an instant"),
        ({"window_start": "2026-01-06", "window_end": "2026-01-05"}, "not after its start"),
    ],
)
def test_run_is_refused_when_its_conf_cannot_be_read(conf: dict, message: str):
    with pytest.raises(SpecError, match=message):
        resolve(conf=conf)


def test_window_is_refused_when_it_has_no_zone_or_no_length():
    with pytest.raises(SpecError, match="no time zone"):
        Window(datetime(2026, 3, 1), END)  # noqa: DTZ001 - the very fault
    with pytest.raises(SpecError, match="not after its start"):
        Window(START, START)


@pytest.mark.parametrize(
    "window",
    [
        Window.of_day("2026-03-01"),
        Window.of_day(date(2024, 2, 29)),
        Window(START, END + timedelta(days=1)),
        Window(START, START + timedelta(microseconds=1)),
        Window(START + timedelta(hours=1), END + timedelta(hours=1)),
    ],
)
def test_window_is_the_same_when_read_from_its_key(window: Window):
    assert Window.from_key(window.key) == window


def test_days_are_half_open_when_the_end_is_midnight():
    assert list(Window.of_day("2026-03-01").days()) == [date(2026, 3, 1)]
    assert list(Window(START, END + timedelta(microseconds=1)).days()) == [date(2026, 3, 1), date(2026, 3, 2)]


def test_window_is_in_utc_when_given_in_another_zone():
    there = timezone(timedelta(hours=-5))
    window = Window(datetime(2026, 2, 28, 19, tzinfo=there), datetime(2026, 3, 1, 19, tzinfo=there))
    assert window.key == "2026-03-01"
    assert window.day == date(2026, 3, 1)
    assert window.end_microseconds == 1_772_409_600_000_000  # date -u -d 2026-03-02 +%s, then six zeros


def test_day_is_refused_when_the_window_is_shifted_or_long():
    for window in (
        Window(START + timedelta(hours=1), END + timedelta(hours=1)),
        Window(START, END + timedelta(days=1)),
    ):
        with pytest.raises(SpecError, match="not one UTC day"):
            _ = window.day
