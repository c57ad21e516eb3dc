"""A Cassandra table as a load's target: its columns, where each comes from, and its key."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import SchemaMismatchError, SpecError

if TYPE_CHECKING:
    from cassandra.cluster import Session

    from tallyclerk.contracts import Contract

DEFAULT_REPLICATION: Mapping[str, Any] = {"class": "SimpleStrategy", "replication_factor": 1}
"""For a stack of one node; a cluster names NetworkTopologyStrategy and its data centres."""

_REPLICATION_TEXT = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """:param name: in Cassandra. :param source: in the lake. :param cql_type: a native type, in lower case."""

    name: str
    source: str
    cql_type: str


@dataclass(frozen=True, slots=True)
class TargetTable:
    """:param clustering_order: ASC or DESC by clustering column; ASC where nothing is said.
    :param indexes: columns with a storage-attached index.
    """

    keyspace: str
    table: str
    columns: tuple[TargetColumn, ...]
    partition_key: tuple[str, ...]
    clustering_key: tuple[str, ...] = ()
    clustering_order: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        missing = [name for name in self.primary_key if name not in names]
        if missing or not self.partition_key:
            raise SpecError(
                f"{self.name}: the key ({', '.join(self.primary_key) or 'none'}) is not among the columns "
                f"({', '.join(names)}). Map every key column to a column of the lake."
            )
        if len(set(names)) != len(names):
            raise SpecError(f"{self.name}: a column is named twice ({', '.join(names)}).")

    @classmethod
    def from_contract(cls, contract: Contract, *, keyspace: str | None = None) -> TargetTable:
        """The target of a contract's ``cassandra`` mapping.

        :raises SpecError: the contract has no such mapping.
        """
        from tallyclerk.contracts.projections import cql_types

        types = cql_types(contract)
        mapping = contract.cassandra
        assert mapping is not None, "cql_types refuses a contract without the mapping"
        return cls(
            keyspace=keyspace or mapping.keyspace,
            table=mapping.table,
            columns=tuple(TargetColumn(name, source, types[name]) for name, source in mapping.columns.items()),
            partition_key=tuple(mapping.partition_key),
            clustering_key=tuple(mapping.clustering_key),
            clustering_order=dict(mapping.clustering_order),
            indexes=mapping.indexes,
        )

    @property
    def primary_key(self) -> tuple[str, ...]:
        return self.partition_key + self.clustering_key

    @property
    def name(self) -> str:
        return f"{self.keyspace}.{self.table}"

    @property
    def cql_name(self) -> str:
        return f"{quoted(self.keyspace)}.{quoted(self.table)}"

    @property
    def key_columns(self) -> tuple[TargetColumn, ...]:
        """The key's columns in the key's order."""
        by_name = {column.name: column for column in self.columns}
        return tuple(by_name[name] for name in self.primary_key)

    @property
    def insert_cql(self) -> str:
        names = ", ".join(quoted(column.name) for column in self.columns)
        marks = ", ".join("?" for _ in self.columns)
        return f"INSERT INTO {self.cql_name} ({names}) VALUES ({marks}) USING TIMESTAMP ?"  # noqa: S608

    @property
    def expiring_insert_cql(self) -> str:
        """As :attr:`insert_cql`, with the seconds to live behind the timestamp; 0 is for ever."""
        return f"{self.insert_cql} AND TTL ?"

    @property
    def delete_cql(self) -> str:
        where = " AND ".join(f"{quoted(name)} = ?" for name in self.primary_key)
        return f"DELETE FROM {self.cql_name} USING TIMESTAMP ? WHERE {where}"  # noqa: S608

    @property
    def create_cql(self) -> str:
        lines = "".join(f"  {quoted(column.name)} {column.cql_type},\n" for column in self.columns)
        partition = ", ".join(map(quoted, self.partition_key))
        key = ", ".join([f"({partition})", *map(quoted, self.clustering_key)])
        order = ", ".join(f"{quoted(name)} {self.clustering_order.get(name, 'ASC')}" for name in self.clustering_key)
        tail = f" WITH CLUSTERING ORDER BY ({order})" if order else ""
        return f"CREATE TABLE IF NOT EXISTS {self.cql_name} (\n{lines}  PRIMARY KEY ({key})\n){tail}"

    @property
    def index_cqls(self) -> list[str]:
        """To be run after :attr:`create_cql`; by two sessions at once, too."""
        from tallyclerk.contracts.projections import index_cql

        return [index_cql(self.keyspace, self.table, column) for column in self.indexes]


def quoted(name: str) -> str:
    """A name as a CQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def create_keyspace_cql(keyspace: str, replication: Mapping[str, Any]) -> str:
    """:raises SpecError: an option that is neither a word nor a number."""
    for text in (*replication.keys(), *map(str, replication.values())):
        if not _REPLICATION_TEXT.fullmatch(text):
            raise SpecError(f"replication={dict(replication)!r}: {text!r} is not a word or a number.")
    options = ", ".join(f"'{name}': '{value}'" for name, value in replication.items())
    return f"CREATE KEYSPACE IF NOT EXISTS {quoted(keyspace)} WITH replication = {{{options}}}"


def check_live_schema(session: Session, target: TargetTable) -> None:
    """Compare the live table with the target; further columns of the live table are fine, they stay unset.

    :raises SchemaMismatchError: the table is missing, a column or an index is missing, a type or the key differs.
    """
    keyspace = session.cluster.metadata.keyspaces.get(target.keyspace)
    live = keyspace.tables.get(target.table) if keyspace else None
    if live is None:
        raise SchemaMismatchError(table=target.name, differences=["it does not exist (create=True makes it)"])
    differences = []
    for column in target.columns:
        found = live.columns.get(column.name)
        if found is None:
            differences.append(f"column {column.name} is missing")
        elif _plain(found.cql_type) != _plain(column.cql_type):
            differences.append(f"column {column.name} is {found.cql_type}, not {column.cql_type}")
    for what, columns, wanted in (
        ("partition key", live.partition_key, target.partition_key),
        ("clustering key", live.clustering_key, target.clustering_key),
    ):
        differences += _key_difference(what, [column.name for column in columns], wanted)
    indexed = {index.index_options.get("target", "").strip('"') for index in live.indexes.values()}
    missing = [name for name in target.indexes if name not in indexed]
    differences += [f"column {name} has no index (create=True makes it)" for name in missing]
    if differences:
        raise SchemaMismatchError(table=target.name, differences=differences)


def _key_difference(what: str, found: Sequence[str], wanted: Sequence[str]) -> list[str]:
    if list(found) == list(wanted):
        return []
    return [f"the {what} is ({', '.join(found)}), not ({', '.join(wanted)})"]


def _plain(cql_type: str) -> str:
    return {"varchar": "text"}.get(cql_type.lower(), cql_type.lower())
