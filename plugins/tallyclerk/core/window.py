"""The window a load is named by, and the one rule that finds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tallyclerk.exceptions import SpecError

ONE_DAY = timedelta(days=1)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open interval ``[start, end)`` of UTC instants.

    :raises SpecError: an instant without a time zone, or an end that is not after the start.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            instant = getattr(self, name)
            if instant.tzinfo is None:
                raise SpecError(f"The window's {name} {instant.isoformat()} has no time zone; write it with one.")
            object.__setattr__(self, name, instant.astimezone(UTC))
        if self.end <= self.start:
            raise SpecError(f"The window ends at {self.end.isoformat()}, not after its start {self.start.isoformat()}.")

    @classmethod
    def of_day(cls, day: date | str) -> Window:
        """The UTC day ``day`` (a date, or its ISO text)."""
        parsed = _parse_day(day) if isinstance(day, str) else day
        start = datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC)
        return cls(start, start + ONE_DAY)

    @property
    def is_one_day(self) -> bool:
        return self.start == self.start.replace(hour=0, minute=0, second=0, microsecond=0) and (
            self.end - self.start == ONE_DAY
        )

    @property
    def day(self) -> date:
        """The day of a one-day window.

        :raises SpecError: the window is not exactly one UTC day.
        """
        if not self.is_one_day:
            raise SpecError(
                f"The window {self.key} is not one UTC day, and the lake's tables are partitioned by day. "
                "Load longer spans with `airflow dags backfill`, one run per day."
            )
        return self.start.date()

    @property
    def key(self) -> str:
        """The window's name: the ISO date of a whole day, else ``start/end``."""
        if self.is_one_day:
            return self.start.date().isoformat()
        return f"{self.start.isoformat()}/{self.end.isoformat()}"

    @property
    def end_microseconds(self) -> int:
        """The end as microseconds since 1970: the base of write timestamps."""
        return (self.end - _EPOCH) // _MICROSECOND

    @classmethod
    def from_key(cls, key: str) -> Window:
        """The inverse of :attr:`key`."""
        if "/" in key:
            start, end = key.split("/", 1)
            return cls(_parse_instant(start), _parse_instant(end))
        return cls.of_day(key)

    def days(self) -> Iterator[date]:
        """Every UTC date that the window touches, in order."""
        day = self.start.date()
        while datetime(day.year, day.month, day.day, tzinfo=UTC) < self.end:
            yield day
            day += ONE_DAY


def resolve_window(
    *,
    conf: Mapping[str, Any] | None,
    partition_key: str | None,
    data_interval_start: datetime | None,
    data_interval_end: datetime | None,
    run_after: datetime,
) -> Window:
    """The window of a Dag run, whatever started it.

    In this order: the run's conf (``date``, or ``window_start`` with ``window_end``), its partition key, its data
    interval when that is not empty, else the UTC day before ``run_after`` (a plain trigger has no logical date).

    :raises SpecError: conf or partition key cannot be read.
    """
    conf = conf or {}
    if "date" in conf:
        if "window_start" in conf or "window_end" in conf:
            raise SpecError("The run's conf has both `date` and `window_start`/`window_end`; give one of them.")
        return Window.of_day(str(conf["date"]))
    if ("window_start" in conf) != ("window_end" in conf):
        raise SpecError("The run's conf has only one of `window_start` and `window_end`; give both, or `date`.")
    if "window_start" in conf:
        return Window(_parse_instant(str(conf["window_start"])), _parse_instant(str(conf["window_end"])))
    if partition_key:
        return Window.from_key(partition_key)
    if data_interval_start and data_interval_end and data_interval_end > data_interval_start:
        return Window(data_interval_start, data_interval_end)
    return Window.of_day(run_after.astimezone(UTC).date() - ONE_DAY)


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SpecError(f"{text!r} is not a date; write it as YYYY-MM-DD.") from None


def _parse_instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise SpecError(f"{text!r} is not an instant; write it as YYYY-MM-DDTHH:MM:SS+00:00.") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
