"""A table through a session: made where it is missing, held to its contract, written with statements that may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tallyclerk.sinks.cassandra_batches import BatchGrouping, Grouping, replica_sets
from tallyclerk.sinks.cassandra_client import Backoff, BoundedWriter, retrying
from tallyclerk.sinks.cassandra_statements import Statements
from tallyclerk.sinks.cassandra_table import (
    DEFAULT_REPLICATION,
    TargetTable,
    check_live_schema,
    create_keyspace_cql,
)

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import PreparedStatement

Result = TypeVar("Result")


class CassandraTarget:
    """Errors as in ``cassandra_client.classify``.

    :param address: how messages call the cluster.
    """

    def __init__(self, session: Session, table: TargetTable, *, backoff: Backoff, address: str = "cassandra") -> None:
        self.session, self.table, self.backoff, self.address = session, table, backoff, address
        self._statements = Statements(session, backoff=backoff, address=address)

    @property
    def location(self) -> str:
        return f"cassandra://{self.address}/{self.table.keyspace}/{self.table.table}"

    def create(self, replication: Mapping[str, Any] = DEFAULT_REPLICATION, *further: str) -> None:
        """Make the keyspace, the table, its indexes and what else is told where they are missing; what exists is left as it is."""
        for cql in (
            create_keyspace_cql(self.table.keyspace, replication), self.table.create_cql, *self.table.index_cqls, *further,
        ):  # fmt: skip
            self.retrying(partial(self.session.execute, cql), "create")

    def check_schema(self) -> None:
        """:raises SchemaMismatchError: the live table is not the target."""
        # both: the driver drops the news of a table whose keyspace another session has just made and it has not heard of yet
        cluster, table = self.session.cluster, self.table
        for refresh in (
            partial(cluster.refresh_keyspace_metadata, table.keyspace),
            partial(cluster.refresh_table_metadata, table.keyspace, table.table),
        ):
            self.retrying(partial(refresh, max_schema_agreement_wait=0), "read schema")
        check_live_schema(self.session, table)

    def prepared(self, cql: str) -> PreparedStatement:
        """An idempotent statement, prepared once."""
        return self._statements.prepared(cql)

    def grouping(self, kind: BatchGrouping, names: Sequence[str]) -> Grouping:
        """How rows of the columns ``names`` share batches."""
        return Grouping(
            kind,
            tuple(names.index(name) for name in self.table.partition_key),
            replica_sets(self.session, self.table.keyspace) if kind == "replica_set" else None,
        )

    def writer(self, in_flight: int) -> BoundedWriter:
        return BoundedWriter(self.session, in_flight=in_flight, backoff=self.backoff, address=self.address)

    def retrying(self, call: Callable[[], Result], what: str) -> Result:
        return retrying(call, backoff=self.backoff, address=self.address, what=what)
