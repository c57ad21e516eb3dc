"""Reading loaded keys back: every key of a window is there, written by this very load.

The cost is a read per key (as many as 50 to a request), so that every key is read back up to ``limit_rows``, and a
systematic sample of about that many beyond it. After an outage during the load every key is read back whatever their
number, because a node with ``commitlog_sync: periodic`` loses rows that it acknowledged before it was killed.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tallyclerk.sinks.cassandra_batches import Row
from tallyclerk.sinks.cassandra_client import Backoff, retrying
from tallyclerk.sinks.cassandra_table import TargetTable, quoted

if TYPE_CHECKING:
    from cassandra.cluster import Session

_KEYS_PER_REQUEST = 50
_IN_FLIGHT = 16


@dataclass(frozen=True, slots=True)
class Verification:
    """:param asked: distinct keys read back. :param found: those that this load wrote. :param every_key: no sample."""

    asked: int
    found: int
    every_key: bool


def sampled(rows: Iterable[list[Row]], *, every: int) -> Iterator[list[Row]]:
    """Each ``every``-th row, from a random first one."""
    skip = random.randrange(every)
    for batch in rows:
        yield batch[skip::every]
        skip = (skip - len(batch)) % every


class KeyReader:
    """Counts keys that are present.

    :param witness: a column that this load never left unset: its write time tells which load wrote the row. None when
        there is none; then a row that merely exists counts.
    """

    def __init__(
        self,
        session: Session,
        target: TargetTable,
        *,
        witness: str | None,
        timestamp: int,
        backoff: Backoff,
        address: str,
    ) -> None:
        self._session, self._target, self._witness, self._timestamp = session, target, witness, timestamp
        self._backoff, self._address = backoff, address
        self._spread = slice(0, 1)
        self._prepared: Any = None

    def count(self, batches: Iterable[list[Row]]) -> tuple[int, int]:
        """:param batches: encoded keys, in the key's order.

        :return: distinct keys asked for, and keys found.
        """
        asked = found = 0
        waiting: deque[tuple[Any, Any]] = deque()
        for batch in batches:
            if self._prepared is None and batch:
                self._prepare(batch)
            for statement, keys in self._requests(batch):
                asked += keys
                waiting.append((statement, self._session.execute_async(statement)))
                if len(waiting) >= _IN_FLIGHT:
                    found += self._found(*waiting.popleft())
        while waiting:
            found += self._found(*waiting.popleft())
        return asked, found

    def _prepare(self, sample: Sequence[Row]) -> None:
        """IN stands at the key column, or at the whole clustering key, that needs the fewest requests; the rest is equal."""
        names, partition = self._target.primary_key, len(self._target.partition_key)
        candidates = [slice(index, index + 1) for index in range(len(names))]
        if len(names) - partition > 1:
            candidates.append(slice(partition, len(names)))
        self._spread = min(candidates, key=lambda spread: len({_rest(row, spread) for row in sample}))
        spread_names = [quoted(name) for name in names[self._spread]]
        many = f"({', '.join(spread_names)})" if len(spread_names) > 1 else spread_names[0]
        terms = [f"{quoted(name)} = ?" for name in names]
        terms[self._spread] = [f"{many} IN ?"]
        what = f"writetime({quoted(self._witness)})" if self._witness else quoted(names[0])
        cql = f"SELECT {what} FROM {self._target.cql_name} WHERE {' AND '.join(terms)}"  # noqa: S608
        self._prepared = retrying(
            lambda: self._session.prepare(cql), backoff=self._backoff, address=self._address, what="prepare read"
        )
        self._prepared.is_idempotent = True

    def _requests(self, batch: Sequence[Row]) -> Iterator[tuple[Any, int]]:
        from cassandra.query import BoundStatement

        spread = self._spread
        groups: dict[Row, dict[bytes, None]] = {}
        for row in batch:
            groups.setdefault(_rest(row, spread), {})[_encoded_member(row[spread])] = None
        for rest, distinct in groups.items():
            members = list(distinct)
            for start in range(0, len(members), _KEYS_PER_REQUEST):
                asked = members[start : start + _KEYS_PER_REQUEST]
                statement = BoundStatement(self._prepared)
                statement.values = [*rest[: spread.start], _encoded_list(asked), *rest[spread.start :]]
                yield statement, len(asked)

    def _found(self, statement: Any, future: Any) -> int:
        futures = [future]

        def rows() -> list[Any]:
            pending = futures.pop() if futures else self._session.execute_async(statement)
            return list(pending.result())

        got = retrying(rows, backoff=self._backoff, address=self._address, what="read keys back")
        if not self._witness:
            return len(got)
        return sum([row[0] == self._timestamp for row in got])


def _rest(row: Row, spread: slice) -> Row:
    return row[: spread.start] + row[spread.stop :]


def _encoded_member(values: Row) -> bytes:
    """A value as it is; several as a tuple: each with its length before it."""
    return values[0] if len(values) == 1 else b"".join([len(value).to_bytes(4, "big") + value for value in values])


def _encoded_list(values: Sequence[bytes]) -> bytes:
    return b"".join(
        [len(values).to_bytes(4, "big"), *[part for value in values for part in (len(value).to_bytes(4, "big"), value)]]
    )
