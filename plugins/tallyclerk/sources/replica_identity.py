"""Whether a table's log tells enough: checked before a slot is made, because what was not logged cannot be had later.

An update logs a new row, but of large values (TOAST) only those that it changed, and a deletion logs what the table's
``REPLICA IDENTITY`` says: the primary key, an index's columns, or with ``FULL`` the whole old row, large values
included (PostgreSQL 17, ``ALTER TABLE``). Reading a missing value from the table afterwards would yield one of a later time, or
none; so that a table with such columns must log full rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyclerk.exceptions import SpecError
from tallyclerk.sources.database_errors import near
from tallyclerk.sources.database_query import Relation, tables_of

if TYPE_CHECKING:
    import psycopg

_LOGGED = """
WITH root AS (SELECT %(table)s::regclass AS oid),
logged AS (
    SELECT relid FROM root, pg_partition_tree(root.oid) WHERE isleaf
    UNION SELECT oid FROM root WHERE NOT EXISTS (SELECT FROM pg_partition_tree(root.oid))
)
SELECT c.oid::regclass::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
    ARRAY(SELECT attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
          WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END),
    ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
          AND attlen = -1 AND attstorage <> 'p' AND c.reltoastrelid <> 0 AND attname = ANY (%(columns)s) ORDER BY attnum)
FROM logged JOIN pg_class c ON c.oid = logged.relid
"""


@dataclass(frozen=True, slots=True)
class LoggedRows:
    """What the log has of one table, or one partition.

    :param identity: ``d``, ``i``, ``f`` or ``n``, as ``pg_class.relreplident``.
    :param identity_columns: of an old row; empty when it is whole, or nothing.
    :param large: of the columns asked for, those whose values may be kept out of line.
    """

    name: str
    kind: str
    persistence: str
    identity: str
    identity_columns: tuple[str, ...]
    large: tuple[str, ...]

    def problems(self, key: Sequence[str]) -> list[str]:
        """Why its changes would not be told completely, each with its remedy."""
        if self.kind != "r":
            return [f"{self.name} is no table with a log of its own"]
        if self.persistence != "p":
            return [f"{self.name} is unlogged or temporary; its changes are in no log"]
        remedy = f"run ALTER TABLE {self.name} REPLICA IDENTITY FULL"
        if self.identity == "f":
            return []
        if missing := [name for name in key if name not in self.identity_columns]:
            return [f"a deletion from {self.name} would not tell {', '.join(missing)}: {remedy}"]
        if self.large:
            return [
                f"an update of {self.name} would not tell unchanged large values of {', '.join(self.large)}: {remedy}"
            ]
        return []


def check_replica_identity(
    connection: psycopg.Connection, relation: Relation, *, key: Sequence[str], columns: Sequence[str]
) -> None:
    """:raises SpecError: with all that keeps the log from telling every change of these columns completely."""
    import psycopg

    try:
        with connection.cursor() as cursor:
            cursor.execute(_LOGGED, {"table": relation.from_sql, "columns": list(columns)})
            tables = [
                LoggedRows(name, kind, persistence, identity, tuple(identity_columns), tuple(large))
                for name, kind, persistence, identity, identity_columns, large in cursor.fetchall()
            ]
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
        raise SpecError(f"There is no table {relation.name}. {near(relation.name, tables_of(connection))}") from error
    problems = [problem for table in tables for problem in table.problems(key)]
    if not tables:
        problems = [f"{relation.name} has no partitions"]
    if problems:
        raise SpecError(f"The log cannot be followed: {'; '.join(problems)}. Then run again.")
