"""A contract's columns in the words of Arrow, DuckDB, Spark and CQL.

All of them read ``physical_types.TYPES``. Avro belongs here too, as ``avro_schema(contract)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tallyclerk.contracts.model import CassandraMapping, Column, Contract
from tallyclerk.contracts.physical_types import lookup, spell
from tallyclerk.exceptions import SpecError

if TYPE_CHECKING:
    import pyarrow as pa


def quoted(name: str) -> str:
    """A name as an SQL identifier (DuckDB, PostgreSQL, CQL)."""
    return '"' + name.replace('"', '""') + '"'


def arrow_type(column: Column) -> pa.DataType:
    """The Arrow type in which a column is stored."""
    import pyarrow as pa

    name = lookup(column.type).arrow
    if name == "decimal128":
        return pa.decimal128(column.precision or 0, column.scale or 0)
    if name == "timestamp":
        return pa.timestamp("us", tz="UTC")
    return pa.type_for_alias(name)


def arrow_schema(contract: Contract, *, derived: bool = True) -> pa.Schema:
    """Schema of the stored table; a required column is not nullable.

    :param derived: with the derived columns; without them it is the schema of what the source brings.
    """
    import pyarrow as pa

    columns = contract.columns if derived else contract.source_columns
    return pa.schema([pa.field(column.name, arrow_type(column), nullable=not column.required) for column in columns])


def duckdb_types(contract: Contract) -> dict[str, str]:
    """Column → DuckDB type while the rules are applied, derived columns included.

    Two of them differ from what is stored: a UUID goes out as VARCHAR, and a TIMESTAMP, which means UTC, as
    ``timestamp[us, tz=UTC]``; :func:`duckdb_output` does both.
    """
    return {column.name: spell(lookup(column.type).duckdb, column.type) for column in contract.columns}


def duckdb_output(contract: Contract) -> dict[str, str]:
    """Column → DuckDB expression that yields the stored value of the typed column, whatever the session's time zone.

    DuckDB labels the Arrow column with the session's zone; casting to :func:`arrow_schema` changes only the label.
    """
    forms = {"uuid": "CAST({} AS VARCHAR)", "timestamp": "({} AT TIME ZONE 'UTC')"}
    return {column.name: forms.get(column.kind, "{}").format(quoted(column.name)) for column in contract.columns}


def spark_ddl(contract: Contract, *, derived: bool = True) -> str:
    """The columns as a Spark schema string, as ``spark.read.schema`` and ``CREATE TABLE`` take it.

    A Spark application that reads it must run with ``spark.sql.session.timeZone=UTC``.
    """
    columns = contract.columns if derived else contract.source_columns
    return ", ".join(
        f"`{column.name}` {spell(lookup(column.type).spark, column.type).replace(', ', ',')}"
        + (" NOT NULL" if column.required else "")
        for column in columns
    )


def cql_types(contract: Contract) -> dict[str, str]:
    """Cassandra column → CQL type, in the table's order.

    :raises SpecError: the contract has no ``cassandra`` mapping.
    """
    mapping = cassandra_mapping(contract)
    return {
        name: mapping.types.get(name) or lookup(contract.column(source).type).cql
        for name, source in mapping.columns.items()
    }


def cql_table(contract: Contract, *, keyspace: str | None = None) -> str:
    """The CREATE TABLE statement of the contract's ``cassandra`` mapping.

    :param keyspace: instead of the mapping's own (for tests).
    :raises SpecError: the contract has no ``cassandra`` mapping.
    """
    mapping = cassandra_mapping(contract)
    lines = [f"  {quoted(name)} {cql_type}," for name, cql_type in cql_types(contract).items()]
    key = ", ".join([_partition(mapping.partition_key), *map(quoted, mapping.clustering_key)])
    order = ", ".join(f"{quoted(name)} {mapping.clustering_order.get(name, 'ASC')}" for name in mapping.clustering_key)
    return "\n".join(
        [
            f"CREATE TABLE IF NOT EXISTS {quoted(keyspace or mapping.keyspace)}.{quoted(mapping.table)} (",
            *lines,
            f"  PRIMARY KEY ({key})",
            ")" + (f" WITH CLUSTERING ORDER BY ({order})" if order else ""),
        ]
    )


def cql_indexes(contract: Contract, *, keyspace: str | None = None) -> list[str]:
    """The CREATE INDEX statements of the contract's ``cassandra`` mapping, to be run after :func:`cql_table`'s.

    :raises SpecError: the contract has no ``cassandra`` mapping.
    """
    mapping = cassandra_mapping(contract)
    return [index_cql(keyspace or mapping.keyspace, mapping.table, column) for column in mapping.indexes]


def index_cql(keyspace: str, table: str, column: str) -> str:
    """The statement that makes one storage-attached index, under the name that Cassandra itself would give it.

    Rows that are there already are indexed afterwards; a read by the column fails until then, which a retry outlasts.
    """
    name = quoted(f"{table}_{column}_idx")
    return f"CREATE INDEX IF NOT EXISTS {name} ON {quoted(keyspace)}.{quoted(table)} ({quoted(column)}) USING 'sai'"


def _partition(names: Sequence[str]) -> str:
    return quoted(names[0]) if len(names) == 1 else f"({', '.join(map(quoted, names))})"


def cassandra_mapping(contract: Contract) -> CassandraMapping:
    """The contract's table in Cassandra.

    :raises SpecError: it has none.
    """
    if contract.cassandra is None:
        raise SpecError(f"{contract.path}: has no customProperty 'cassandra'; add it under schema[0].customProperties.")
    return contract.cassandra
