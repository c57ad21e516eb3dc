"""Let DuckDB bind every expression of a contract to its columns, so that a misspelt name is found before data comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tallyclerk.contracts.documents import Findings, Place, suggestion
from tallyclerk.contracts.model import Column, Rule
from tallyclerk.contracts.physical_types import UNREADABLE, lookup, spell
from tallyclerk.contracts.projections import quoted

if TYPE_CHECKING:
    import duckdb

_CHECKED = ("pattern", "sql", "validValues", "multipleOf", "minLength", "maxLength", "enum", "missingValues")


def check_expressions(
    columns: Iterable[Column], rules: Iterable[tuple[Rule, Place]], places: Mapping[str, Place], findings: Findings
) -> None:
    """Add a finding for each derived column and rule that DuckDB cannot bind.

    Loads duckdb only when there is something to bind. Nothing outside the empty tables can be read.

    :param places: where each derived column's logic stands.
    """
    columns = tuple(columns)
    derived = [column for column in columns if column.derived is not None]
    written = [(rule, place) for rule, place in rules if rule.check in _CHECKED]
    if not derived and not written:
        return
    import duckdb

    if not all(column.name for column in columns):
        return  # a finding already; such a table cannot be made
    with duckdb.connect(config={"enable_external_access": "false", "threads": "1"}) as connection:
        _create(connection, "source_columns", [column for column in columns if column.derived is None])
        _create(connection, "all_columns", columns)
        for column in derived:
            expression = f"CAST(({column.derived}) AS {_duckdb_type(column)})"
            _bind(connection, expression, "source_columns", columns, places[column.name], findings)
        for rule, place in written:
            _bind(connection, f"CAST(({rule.violation}) AS BOOLEAN)", "all_columns", columns, place, findings)


def _create(connection: duckdb.DuckDBPyConnection, table: str, columns: Iterable[Column]) -> None:
    listed = ", ".join(f"{quoted(column.name)} {_duckdb_type(column)}" for column in columns)
    connection.execute(f"CREATE TABLE {table} ({listed})")


def _duckdb_type(column: Column) -> str:
    return "VARCHAR" if column.type == UNREADABLE else spell(lookup(column.type).duckdb, column.type)


def _bind(
    connection: duckdb.DuckDBPyConnection,
    expression: str,
    table: str,
    columns: tuple[Column, ...],
    place: Place,
    findings: Findings,
) -> None:
    import duckdb

    try:
        # A WHERE clause takes no aggregate and no window: what stands there is about one row
        connection.execute(f"SELECT 1 FROM {table} WHERE ({expression}) IS NULL")  # noqa: S608  the table is empty
    except duckdb.Error as refusal:
        first = str(refusal).partition("\n")[0].partition(": ")[2] or str(refusal)
        name = first.split('"')[1] if 'column "' in first.lower() else ""
        if not name and any(column.type == UNREADABLE for column in columns):
            return  # perhaps only an echo of that column's own finding
        remedy = suggestion(name, [column.name for column in columns]) if name else "mend the expression"
        findings.add(place, f"DuckDB does not take it: {first.rstrip('.!')}; {remedy}")
