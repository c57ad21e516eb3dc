"""Statements by their text: prepared once, idempotent, tried again while Cassandra is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tallyclerk.sinks.cassandra_client import Backoff, retrying

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import PreparedStatement


class Statements:
    """What is run through this may be repeated: it states the same facts. May be used by several threads.

    Errors as in :func:`~tallyclerk.sinks.cassandra_client.classify`; ``what`` says in the log what is tried again.
    """

    def __init__(self, session: Session, *, backoff: Backoff, address: str) -> None:
        self._session, self._backoff, self._address = session, backoff, address
        self._prepared: dict[str, PreparedStatement] = {}

    def prepared(self, cql: str) -> PreparedStatement:
        """For who sends it by other means."""
        return retrying(lambda: self._once(cql), backoff=self._backoff, address=self._address, what="prepare")

    def run(self, cql: str, values: Sequence[Any] = (), *, what: str) -> list[Any]:
        """All rows of the answer."""

        def call() -> list[Any]:
            return list(self._session.execute(self._once(cql), values))

        return retrying(call, backoff=self._backoff, address=self._address, what=what)

    def run_serially(self, cql: str, values: Sequence[Any], *, what: str, is_read: bool = False) -> list[Any]:
        """As :meth:`run`, for tables all of whose writes are lightweight transactions: in one order for everybody.

        :param is_read: it is a SELECT, which sees every transaction that was answered before it.
        """
        from cassandra import ConsistencyLevel

        def call() -> list[Any]:
            statement = self._once(cql).bind(values)
            statement.serial_consistency_level = ConsistencyLevel.SERIAL
            if is_read:
                statement.consistency_level = ConsistencyLevel.SERIAL
            return list(self._session.execute(statement))

        return retrying(call, backoff=self._backoff, address=self._address, what=what)

    def _once(self, cql: str) -> PreparedStatement:
        if cql not in self._prepared:
            statement = self._session.prepare(cql)
            statement.is_idempotent = True
            self._prepared[cql] = statement
        return self._prepared[cql]
