"""Which day of the data a calendar day shows.

The data run from 2017-01-01 to 2018-01-01, with two holes: 2017-12-25, when the shop was closed, and
2018-01-01, which stops at four in the morning. The rule:

    Today's week (Monday to Sunday) shows the **last whole week of the data, 2017-12-18 to 2017-12-24**: the
    last one with sales on each of its seven days. Every other day is moved by the same number of days, a
    multiple of seven.

So weekdays stay true, today sells from its first hour, and yesterday and the day before are complete, whatever
today is (on a Monday they show 12-17 and 12-16). History reaches back to 2017-01-01: 351 complete days on a
Monday, 357 on a Sunday. The eight days after 2017-12-24 stay in the future and are never sold, so neither hole
is ever seen.

The shift grows by seven days each Monday, because the data end. A lake that lives longer than that week
therefore sees last week's sales again under new dates; whoever wants one history over several weeks fixes
``SHOP_TODAY``.

All dates are UTC.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from include.shop import environment
from include.shop.exceptions import ShopError

FIRST_SOURCE_DAY = date(2017, 1, 1)
LAST_SOURCE_DAY = date(2018, 1, 1)
LAST_WHOLE_WEEK_MONDAY = date(2017, 12, 18)


@dataclass(frozen=True, slots=True)
class TradingDays:
    """The shop's dates as seen from ``today``: a value, so that one answer holds for a whole command."""

    today: date

    @property
    def shift(self) -> timedelta:
        """What is added to a date of the data; a multiple of seven days."""
        monday = self.today - timedelta(days=self.today.weekday())
        return monday - LAST_WHOLE_WEEK_MONDAY

    @property
    def first_day(self) -> date:
        """The day on which the shop's history begins."""
        return FIRST_SOURCE_DAY + self.shift

    @property
    def yesterday(self) -> date:
        """The newest complete day."""
        return self.today - timedelta(days=1)

    def complete_days(self, last: int | None = None) -> list[date]:
        """The complete days, oldest first; with ``last`` only that many, ending yesterday."""
        count = (self.today - self.first_day).days
        if last is not None:
            if last < 1:
                raise ShopError(f"The number of days must be at least 1, not {last}.")
            count = min(count, last)
        return [self.today - timedelta(days=back) for back in range(count, 0, -1)]

    def source_day(self, day: date) -> date:
        """The day of the data that ``day`` shows.

        :raises ShopError: the data have no such day.
        """
        source = day - self.shift
        if not FIRST_SOURCE_DAY <= source <= LAST_SOURCE_DAY:
            raise ShopError(
                f"The shop has no sales for {day}: its history runs from {self.first_day} to {self.today} (today). "
                f"Choose a day in it, or set SHOP_TODAY."
            )
        return source


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
