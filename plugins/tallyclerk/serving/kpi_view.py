"""One view over both layers: the batch layer's rows of closed days, the speed layer's of all others.

Each read asks which days are closed *before* it asks for rows. A batch row is therefore shown only when its day's loads are signed, and a
day that closes in mid read is answered by the speed layer, whose rows stay for days after that: never by both layers, never by
neither. The session's consistency level must see acknowledged writes (``LOCAL_QUORUM``, the hook's default).

What this cannot promise: while a correction of a closed day is loaded, rows of the former and of the new generation stand side by
side, as Cassandra has no transaction over partitions. Each row is whole; ``closed_at`` moves on when the correction is signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tallyclerk.exceptions import CassandraRefusedError
from tallyclerk.sinks.cassandra_client import Backoff
from tallyclerk.sinks.cassandra_statements import Statements
from tallyclerk.sinks.cassandra_table import quoted
from tallyclerk.sinks.closed_days import ClosedDay, ClosedDays, within

if TYPE_CHECKING:
    from cassandra.cluster import Session

Layer = Literal["batch", "speed"]
Result = TypeVar("Result")

BATCH_TABLE = "customer_kpis"
SPEED_TABLE = "customer_kpis_speed"
_TABLES: dict[Layer, str] = {"batch": BATCH_TABLE, "speed": SPEED_TABLE}
_COLUMNS = "customer_id, date, total_amount, transaction_count, avg_transaction_value"


@dataclass(frozen=True, slots=True)
class KpiRow:
    """What a customer bought on a day (UTC), in dollars.

    :param layer: who answers. :param closed_at: since when the batch layer does, in UTC; None from the speed layer, whose numbers
        still grow.
    """

    customer_id: str
    date: date
    total_amount: Decimal
    transaction_count: int
    avg_transaction_value: Decimal
    layer: Layer
    closed_at: datetime | None = None


class KpiView:
    """The customers' KPIs. May be used by several threads.

    A table that nobody has made yet counts as empty. Days that were loaded before days were closed are not shown until
    `retail_daily` has run for them again, which loads what has changed since, if anything, and closes them.

    :param backoff: how long to wait for a node that is away.
    :raises ServiceUnavailableError: it stayed away (each method).
    """

    def __init__(
        self,
        session: Session,
        keyspace: str = "pipeline",
        *,
        backoff: Backoff | None = None,
        address: str = "cassandra",
    ) -> None:
        self._keyspace, backoff = keyspace, backoff or Backoff(limit_seconds=10)
        self._closed_days = ClosedDays(
            session, keyspace=keyspace, dataset=BATCH_TABLE, backoff=backoff, address=address
        )
        self._statements = Statements(session, backoff=backoff, address=address)

    def customer(self, customer_id: str, since: date | None = None, until: date | None = None) -> list[KpiRow]:
        """A customer's days from ``since`` to ``until``, both included, the newest first; None is no bound."""
        closed = self.closed(since, until)
        where, values = within(customer_id, since, until, key="customer_id")
        rows = [row for row in self._rows("batch", where, values, closed) if row.date in closed] if closed else []
        rows += [row for row in self._rows("speed", where, values, {}) if row.date not in closed]
        return sorted(rows, key=lambda row: row.date, reverse=True)

    def day(self, day: date, limit: int | None = None) -> list[KpiRow]:
        """A day's customers, who bought most first. All of the day are read, and ``limit`` of them returned."""
        closed = self.closed(day, day)
        rows = self.layer("batch" if day in closed else "speed", day, closed)
        return sorted(rows, key=lambda row: (-row.total_amount, row.customer_id))[:limit]

    def layer(self, layer: Layer, day: date, closed: dict[date, ClosedDay] | None = None) -> list[KpiRow]:
        """A day's customers by one layer, whether it is the one that answers or not: for comparing the two."""
        return self._rows(layer, "date = ?", (day,), closed or {})

    def closed(self, since: date | None = None, until: date | None = None) -> dict[date, ClosedDay]:
        """The closed days from ``since`` to ``until``, both included."""
        return if_made(partial(self._closed_days.between, since, until)) or {}

    def _rows(self, layer: Layer, where: str, values: Sequence[Any], closed: dict[date, ClosedDay]) -> list[KpiRow]:
        table = _TABLES[layer]
        cql = f"SELECT {_COLUMNS} FROM {quoted(self._keyspace)}.{table} WHERE {where}"  # noqa: S608
        found = []
        for customer, on, amount, count, average in if_made(partial(self._read, cql, values)) or ():
            day = on.date()
            closed_at = closed[day].closed_at if day in closed else None
            found.append(KpiRow(customer, day, amount, count, average, layer, closed_at))
        return found

    def _read(self, cql: str, values: Sequence[Any]) -> list[Any]:
        """All pages. An index that is still being built fails a read for a while, as a node that is away does."""
        return self._statements.run(cql, values, what="read KPIs")


def if_made(read: Callable[[], Result]) -> Result | None:
    """What a read says; None where nobody has made its table or its keyspace yet."""
    try:
        return read()
    except CassandraRefusedError as refusal:
        if "does not exist" in str(refusal.__cause__) or "unconfigured table" in str(refusal.__cause__):
            return None
        raise
