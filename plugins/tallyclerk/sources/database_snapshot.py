"""One read-only snapshot of a database, seen by two connections of two drivers.

psycopg describes and counts, ADBC reads; ``pg_export_snapshot`` shows both the same rows, whatever is committed meanwhile
(PostgreSQL 17, 9.28.5 and 13.2.2). Because the count comes from another driver and another statement than the rows, a
reader that drops or doubles rows does not go unseen.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyclerk.contracts.projections import quoted
from tallyclerk.sources.database_query import Relation, describe
from tallyclerk.sources.database_types import DescribedColumn

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_BATCH_BYTES_OPTION = "adbc.postgresql.batch_size_hint_bytes"
SESSION = (
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'iso_8601'",
    "SET LOCAL extra_float_digits = 1",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL xmloption = 'content'",
)
"""Settings that decide how values become text; an answer must not depend on the login's defaults."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """:param name: ``pg_export_snapshot()``. :param transactions: ``pg_current_snapshot()``, for the receipt."""

    connection: psycopg.Connection
    conninfo: str
    name: str
    transactions: str

    def describe(self, relation: Relation, names: Sequence[str] | None) -> list[DescribedColumn]:
        return describe(self.connection, relation, names)

    def count(self, relation: Relation, condition: str = "") -> int:
        """Rows of a relation, counted by the server."""
        with self.connection.cursor() as cursor:
            cursor.execute(relation.select(["count(*)"], condition))
            row = cursor.fetchone()
        assert row is not None
        return int(row[0])

    def rows_without_position(self, relation: Relation, column: DescribedColumn) -> int:
        """Rows that are in no window, because their incremental column is null or infinite."""
        name = quoted(column.name)
        return self.count(relation, f"{name} IS NULL OR {name} IN ('infinity', '-infinity')")

    def batches(self, query: str, *, batch_bytes: int) -> Generator[pa.RecordBatch]:
        """The rows of a query, through binary COPY, in batches of about ``batch_bytes``."""
        isolation = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
        yield from arrow_batches(
            self.conninfo, query, setup=(isolation, f"SET TRANSACTION SNAPSHOT '{self.name}'"), batch_bytes=batch_bytes
        )


def arrow_batches(
    conninfo: str, query: str, *, setup: Sequence[str] = (), batch_bytes: int
) -> Generator[pa.RecordBatch]:
    """The rows of a query in a session and transaction of its own, through binary COPY.

    :param setup: commands that go before the query in its transaction, and before ``SESSION``.
    :param batch_bytes: about how large a batch is.
    """
    import adbc_driver_postgresql as postgresql
    from adbc_driver_manager import AdbcConnection, AdbcStatement
    from adbc_driver_manager._reader import AdbcRecordBatchReader

    # Not their DB-API: it imports pandas (1 CPU-second), and the reader it hands out loses an error's SQLSTATE
    with postgresql.connect(conninfo) as database, AdbcConnection(database) as connection:
        connection.set_autocommit(False)
        for command in (*setup, *SESSION):
            with AdbcStatement(connection) as statement:
                statement.set_sql_query(command)
                statement.execute_update()
        with AdbcStatement(connection) as statement:
            statement.set_options(**{_BATCH_BYTES_OPTION: str(batch_bytes)})
            statement.set_sql_query(query)
            stream, _ = statement.execute_query()
            with closing(AdbcRecordBatchReader._import_from_c(stream.address)) as reader:
                yield from reader


def complete_conninfo(conninfo: str) -> str:
    """The connection's own settings, and ours where it has none."""
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    stated = conninfo_to_dict(conninfo)
    defaults = {"connect_timeout": "10", "application_name": "tallyclerk", "client_encoding": "UTF8"}
    return make_conninfo(conninfo, **{key: value for key, value in defaults.items() if not stated.get(key)})


@contextmanager
def open_snapshot(conninfo: str, *, exported: str | None = None) -> Iterator[Snapshot]:
    """A REPEATABLE READ READ ONLY transaction. Tables it reads cannot be dropped or rewritten until it ends.

    :param exported: a snapshot that another session exported and still holds, to see the same rows.
    """
    import psycopg

    complete = complete_conninfo(conninfo)
    connection = psycopg.connect(complete, autocommit=True)
    try:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        with connection.transaction(), connection.cursor() as cursor:
            if exported is not None:
                cursor.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
            for setting in SESSION:
                cursor.execute(setting)
            cursor.execute("SELECT pg_export_snapshot(), pg_current_snapshot()::text")
            row = cursor.fetchone()
            assert row is not None
            yield Snapshot(connection, complete, *row)
    finally:
        connection.close()
