"""Days: the arguments that name them, the window they form, the partitions they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from pyspark.sql import Column
from pyspark.sql import functions as fn


@dataclass(frozen=True, slots=True)
class DayRange:
    """The days ``first`` to ``last``, both included."""

    first: date
    last: date

    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    @property
    def key(self) -> str:
        """The window's name, as the provider writes it: the ISO date of one day, else ``start/end``, half-open."""
        if self.first == self.last:
            return self.first.isoformat()
        end = self.last + timedelta(days=1)
        return f"{self.first.isoformat()}T00:00:00+00:00/{end.isoformat()}T00:00:00+00:00"

    def widened(self, *, before: int = 0, after: int = 0) -> DayRange:
        return DayRange(self.first - timedelta(days=before), self.last + timedelta(days=after))


def add_day_arguments(parser: argparse.ArgumentParser) -> None:
    """``--date D``, or ``--from D --to D``."""
    parser.add_argument("--date", type=date.fromisoformat, help="one day, YYYY-MM-DD")
    parser.add_argument("--from", dest="first", type=date.fromisoformat, help="first day of a range")
    parser.add_argument("--to", dest="last", type=date.fromisoformat, help="last day of the range, included")


def day_range(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> DayRange:
    """The days asked for; ends the program with argparse's usage error when they are not one day or one range."""
    if arguments.date and not arguments.first and not arguments.last:
        return DayRange(arguments.date, arguments.date)
    if arguments.date or not arguments.first or not arguments.last:
        parser.error("give --date D, or --from D --to D")
    if arguments.last < arguments.first:
        parser.error(f"--to {arguments.last} is before --from {arguments.first}")
    return DayRange(arguments.first, arguments.last)


def partition_date() -> Column:
    """The date that a row's partition columns stand for."""
    return fn.make_date(fn.col("year"), fn.col("month"), fn.col("day"))


def partitions_sql(days: Iterable[date]) -> str:
    """A predicate over the columns year, month and day that holds for exactly these days (Delta prunes files with it)."""
    months = groupby(sorted(set(days)), key=lambda day: (day.year, day.month))
    terms = [
        f"(year = {year} AND month = {month} AND day IN ({', '.join(str(day.day) for day in group)}))"
        for (year, month), group in months
    ]
    return " OR ".join(terms) if terms else "FALSE"


def partitions_between_sql(span: DayRange) -> str:
    """Like :func:`partitions_sql` for every day of a span, in few terms."""
    numbers = [day.year * 10000 + day.month * 100 + day.day for day in (span.first, span.last)]
    years = f"year BETWEEN {span.first.year} AND {span.last.year}"
    return f"{years} AND year * 10000 + month * 100 + day BETWEEN {numbers[0]} AND {numbers[1]}"
