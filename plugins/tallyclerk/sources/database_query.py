"""The SQL of an extract: what is read, which rows belong to a window, and which types they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tallyclerk.contracts.projections import quoted
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.sources.database_errors import near
from tallyclerk.sources.database_types import DATE, TIMESTAMP, TIMESTAMPTZ, DescribedColumn, literal

if TYPE_CHECKING:
    import psycopg

# No zone of the tz database is a day away from UTC, so this keeps an index on the column usable
_ZONE_MARGIN = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Relation:
    """One table (``schema.table``, spelled as in the catalogue: case counts) or one query.

    :raises SpecError: both or neither are given.
    """

    table: str | None = None
    query: str | None = None

    def __post_init__(self) -> None:
        if bool(self.table) == bool(self.query):
            raise SpecError("Give either `table` or `query` to read from.")

    @property
    def name(self) -> str:
        """For messages and receipts."""
        return self.table or "query"

    @property
    def path(self) -> str:
        """Behind the database's URI: ``schema/table``, as assets and lineage spell it, or ``query``."""
        return (self.table or "query").replace(".", "/", 1)

    @property
    def from_sql(self) -> str:
        """What stands behind FROM. A query is wrapped, so that a comment at its end hides nothing."""
        if self.table:
            return ".".join(quoted(part) for part in self.table.split(".", 1))
        return f"(\n{(self.query or '').strip().rstrip(';')}\n) AS source_query"

    def select(self, expressions: Sequence[str], condition: str = "") -> str:
        return f"SELECT {', '.join(expressions)} FROM {self.from_sql}{f' WHERE {condition}' if condition else ''}"  # noqa: S608


def describe(connection: psycopg.Connection, relation: Relation, names: Sequence[str] | None) -> list[DescribedColumn]:
    """The columns of a relation, all of them or those named, without reading a row.

    :raises SpecError: the table or a column does not exist; the message names near ones. A name comes twice.
    """
    import psycopg

    expressions = [quoted(name) for name in names] if names else ["*"]
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(f"{relation.select(expressions)} LIMIT 0")
            result = cursor.pgresult
            assert result is not None
            found = [
                ((result.fname(index) or b"").decode(), result.ftype(index), result.fmod(index))
                for index in range(result.nfields)
            ]
            columns = resolve_types(cursor, found)
    except psycopg.errors.UndefinedTable as error:
        if relation.table is None:
            raise
        raise SpecError(f"There is no table {relation.table}. {near(relation.table, tables_of(connection))}") from error
    except psycopg.errors.UndefinedColumn as error:
        if names is None:
            raise
        existing = [column.name for column in describe(connection, relation, None)]
        missing = [name for name in names if name not in existing]
        hints = "; ".join(f"{name}: {near(name, existing)}" for name in missing)
        raise SpecError(f"{relation.name} has no column {', '.join(missing)}. {hints}") from error
    _refuse_twins(relation, columns)
    return columns


def resolve_types(cursor: psycopg.Cursor, found: Sequence[tuple[str, int, int]]) -> list[DescribedColumn]:
    """Columns by name, type and type modifier; a domain becomes the type it is based on.

    A result's description names base types already; the log and the catalogue name domains.
    """
    cursor.execute(
        "WITH RECURSIVE asked(nr, id, mod) AS ("
        "SELECT nr, id, mod FROM unnest(%s::oid[], %s::int[]) WITH ORDINALITY AS given(id, mod, nr) UNION ALL "
        "SELECT nr, typbasetype, typtypmod FROM asked JOIN pg_type ON pg_type.oid = id WHERE typtype = 'd') "
        "SELECT id, mod, format_type(id, mod), typcategory = 'A' FROM asked JOIN pg_type ON pg_type.oid = id "
        "WHERE typtype <> 'd' ORDER BY nr",
        [[oid for _, oid, _ in found], [typmod for _, _, typmod in found]],
    )
    return [DescribedColumn(name, *facts) for (name, _, _), facts in zip(found, cursor.fetchall(), strict=True)]


def window_condition(column: DescribedColumn, window: Window, *, time_zone: str) -> str:
    """SQL that is true for the rows of the half-open window ``[start, end)``, at a microsecond's precision.

    Contiguous windows meet every row exactly once: a row on a boundary belongs to the later window. A timestamp
    without a zone is read in ``time_zone``, each value as one instant (PostgreSQL takes the later one where clocks are
    set back), so that this also holds in the night of a change.

    :raises SpecError: the column's type has no place on the time line, or a date column's window is not whole UTC days.
    """
    name = quoted(column.name)
    instants = [f"TIMESTAMPTZ '{bound.isoformat()}'" for bound in (window.start, window.end)]
    if column.oid == TIMESTAMPTZ:
        return f"{name} >= {instants[0]} AND {name} < {instants[1]}"
    if column.oid == TIMESTAMP:
        naive = window.start.replace(tzinfo=None), window.end.replace(tzinfo=None)
        if time_zone == "UTC":
            return f"{name} >= TIMESTAMP '{naive[0].isoformat()}' AND {name} < TIMESTAMP '{naive[1].isoformat()}'"
        local = f"({name} AT TIME ZONE {literal(time_zone)})"
        return (
            f"{name} >= TIMESTAMP '{(naive[0] - _ZONE_MARGIN).isoformat()}' "
            f"AND {name} < TIMESTAMP '{(naive[1] + _ZONE_MARGIN).isoformat()}' "
            f"AND {local} >= {instants[0]} AND {local} < {instants[1]}"
        )
    if column.oid == DATE:
        if any(
            bound.replace(hour=0, minute=0, second=0, microsecond=0) != bound for bound in (window.start, window.end)
        ):
            raise SpecError(
                f"The window {window.key} cuts a day, and the incremental column {column.name} is a date. "
                "Use windows of whole UTC days, or a timestamptz column."
            )
        return f"{name} >= DATE '{window.start.date()}' AND {name} < DATE '{window.end.date()}'"
    raise SpecError(
        f"The incremental column {column.name} is {column.type_name}, which has no place on a window's time line. "
        "Use a timestamptz, timestamp or date column, or mode='full'."
    )


def check_time_zone(name: str) -> None:
    """:raises SpecError: not a zone of the tz database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise SpecError(f"{name!r} is not a time zone; write it as in Europe/Berlin, or UTC.") from None


def tables_of(connection: psycopg.Connection) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
            "WHERE relkind IN ('r', 'v', 'm', 'p', 'f') AND nspname NOT IN ('pg_catalog', 'information_schema') "
            "AND nspname NOT LIKE 'pg\\_t%' AND has_schema_privilege(relnamespace, 'USAGE') ORDER BY 1"
        )
        return [name for (name,) in cursor.fetchall()]


def _refuse_twins(relation: Relation, columns: Sequence[DescribedColumn]) -> None:
    names = [column.name for column in columns]
    twins = sorted({name for name in names if names.count(name) > 1})
    if twins:
        raise SpecError(
            f"{relation.name} yields {', '.join(twins)} more than once; give each column a name of its own."
        )
    if not names:
        raise SpecError(f"{relation.name} has no columns.")
