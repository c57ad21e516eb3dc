"""Which day of the data a calendar day shows: one for ever, so that a date's sales never change.

The data's 364 days from Monday 2017-01-02 to Sunday 2017-12-31 are laid over the calendar again and again, forwards
and backwards from ``ANCHOR``. A repetition is a **cycle**; cycle 0 begins on the anchor. So

* a date shows the same day of the data whatever today is: today decides only which dates are complete;
* weekdays are true, because 364 is a multiple of seven;
* the season is true: 2026-11-23 shows 2017-11-20. A year is 1.24 days longer than a cycle, so the two drift apart by
  that much a year: from 2024 to 2033 they are at most a week apart.

Outside these days nothing is sold: of the source's 1,469,307 sales, the 3,098 of 2017-01-01 and the 534 of 2018-01-01,
which stops at four in the morning, are left out. On 2017-12-25 the shop was closed: the dates that show it
(2025-12-29, 2026-12-28, ...) have no sales, and a file of a header alone.

All dates are UTC. See docs/adr/0001-the-shops-calendar-never-moves.md.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from include.shop import environment
from include.shop.exceptions import ShopError

ANCHOR = date(2026, 1, 5)
"""The Monday on which cycle 0 begins. To move it is to change every date's sales: never do."""

CYCLE_DAYS = 364
FIRST_SOURCE_DAY = date(2017, 1, 2)
CLOSED_SOURCE_DAY = date(2017, 12, 25)


@dataclass(frozen=True, slots=True)
class Showing:
    """The day of the data that a date shows, and in which cycle."""

    cycle: int
    source_day: date


def showing(day: date) -> Showing:
    """What ``day`` shows, whatever today is."""
    cycle, offset = divmod((day - ANCHOR).days, CYCLE_DAYS)
    return Showing(cycle, FIRST_SOURCE_DAY + timedelta(days=offset))


def cycle_begin(cycle: int) -> date:
    """The Monday on which a cycle begins."""
    return ANCHOR + timedelta(days=cycle * CYCLE_DAYS)


@dataclass(frozen=True, slots=True)
class TradingDays:
    """The shop's dates as seen from ``today``: a value, so that one answer holds for a whole command."""

    today: date

    @property
    def first_day(self) -> date:
        """The oldest of the complete days."""
        return self.today - timedelta(days=CYCLE_DAYS)

    @property
    def yesterday(self) -> date:
        """The newest complete day."""
        return self.today - timedelta(days=1)

    def complete_days(self, last: int | None = None) -> list[date]:
        """The 364 days up to yesterday, oldest first; with ``last`` only that many of them, ending yesterday."""
        count = CYCLE_DAYS
        if last is not None:
            if last < 1:
                raise ShopError(f"The number of days must be at least 1, not {last}.")
            count = min(count, last)
        return [self.today - timedelta(days=back) for back in range(count, 0, -1)]

    def source_day(self, day: date) -> date:
        """The day of the data that ``day`` shows; days older than the complete ones have theirs too.

        :raises ShopError: the day is still to come.
        """
        if day > self.today:
            raise ShopError(
                f"The shop has no sales for {day} yet: its today is {self.today}. Choose a day up to it, "
                f"or set SHOP_TODAY."
            )
        return showing(day).source_day


def current() -> TradingDays:
    """The dates as of ``SHOP_TODAY``, or of the clock (UTC) when it is not set."""
    text = environment.setting("SHOP_TODAY")
    if text is None:
        return TradingDays(datetime.now(UTC).date())
    try:
        return TradingDays(date.fromisoformat(text))
    except ValueError as error:
        raise ShopError(
            f"SHOP_TODAY is {text!r}, which is no ISO date: write it as YYYY-MM-DD, or unset it."
        ) from error
