"""Closed days: for which days the batch layer answers, and with which generation of its rows.

A day is closed by one write to one partition, after its loads are signed in ``tallyclerk_loads``: a reader sees it closed or
not, nothing between. Who reads asks here first and for rows second: a day that closes meanwhile is then answered by the speed
layer once more, whole. The write bears the load's own timestamp, so that of two writes the higher generation stays, in
whatever order they come, and repeating one changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import TYPE_CHECKING

from tallyclerk.core.window import Window
from tallyclerk.sinks.cassandra_client import Backoff, retrying
from tallyclerk.sinks.cassandra_loads import write_timestamp
from tallyclerk.sinks.cassandra_statements import Statements
from tallyclerk.sinks.cassandra_table import quoted

if TYPE_CHECKING:
    from cassandra.cluster import Session

CLOSED_TABLE = "closed_days"


@dataclass(frozen=True, slots=True)
class ClosedDay:
    """:param generation: of the signed load that answers for the day. :param closed_at: when that was first said, in UTC."""

    date: date
    generation: int
    closed_at: datetime


class ClosedDays:
    """:param dataset: the batch data set, by its contract's name."""

    def __init__(self, session: Session, *, keyspace: str, dataset: str, backoff: Backoff, address: str) -> None:
        self._session, self._dataset = session, dataset
        self._backoff, self._address = backoff, address
        self._name = f"{quoted(keyspace)}.{CLOSED_TABLE}"
        self._statements = Statements(session, backoff=backoff, address=address)

    def create(self) -> None:
        """Make the table where it is missing; its keyspace is there."""
        cql = (
            f"CREATE TABLE IF NOT EXISTS {self._name} (dataset text, date date, generation bigint, closed_at timestamp, "
            "PRIMARY KEY (dataset, date)) WITH CLUSTERING ORDER BY (date DESC)"
        )
        retrying(partial(self._session.execute, cql), backoff=self._backoff, address=self._address, what="create")

    def between(self, since: date | None = None, until: date | None = None) -> dict[date, ClosedDay]:
        """The closed days from ``since`` to ``until``, both included; None is no bound."""
        where, values = within(self._dataset, since, until, key="dataset")
        rows = self._statements.run(
            f"SELECT date, generation, closed_at FROM {self._name} WHERE {where}",  # noqa: S608
            values,
            what="read closed days",
        )
        found = [ClosedDay(row.date.date(), row.generation, row.closed_at.replace(tzinfo=UTC)) for row in rows]
        return {day.date: day for day in found}

    def close(self, window: Window, generation: int) -> tuple[ClosedDay, bool]:
        """Let the batch layer answer for the window's day.

        :return: the day as it is now closed, and whether this call wrote it: the same generation, or a higher one, stays.
        """
        held = self.between(window.day, window.day).get(window.day)
        if held is not None and held.generation >= generation:
            return held, False
        day = ClosedDay(window.day, generation, datetime.now(UTC))
        self._statements.run(
            f"INSERT INTO {self._name} (dataset, date, generation, closed_at) VALUES (?, ?, ?, ?) USING TIMESTAMP ?",  # noqa: S608
            (self._dataset, day.date, generation, day.closed_at, write_timestamp(window, generation)),
            what="close a day",
        )
        return day, True


def within(value: str, since: date | None, until: date | None, *, key: str) -> tuple[str, tuple[str | date, ...]]:
    """The condition of one partition's rows from ``since`` to ``until``, both included, and what is bound to it; None is no bound."""
    bounds = [(f"date {sign} ?", day) for sign, day in ((">=", since), ("<=", until)) if day is not None]
    return " AND ".join([f"{key} = ?", *(term for term, _ in bounds)]), (value, *(day for _, day in bounds))
