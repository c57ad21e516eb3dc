"""The CREATE TABLE statements of the contracts before a real Cassandra, in a keyspace of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session

from tallyclerk.contracts import load_contract
from tallyclerk.contracts.model import CassandraMapping, Column, Contract
from tallyclerk.contracts.physical_types import TYPES
from tallyclerk.contracts.projections import cql_table, cql_types

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    port = int(os.environ.get("TALLYCLERK_CASSANDRA_PORT", "9042"))
    profile = ExecutionProfile(request_timeout=60)
    with Cluster(["127.0.0.1"], port=port, execution_profiles={EXEC_PROFILE_DEFAULT: profile}) as cluster:
        yield cluster.connect()


@pytest.fixture(scope="module")
def keyspace(session: Session) -> Iterator[str]:
    name = f"contract_ddl_{uuid4().hex[:12]}"
    session.execute(f"CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    yield name
    session.execute(f"DROP KEYSPACE {name}")


def columns_of(session: Session, keyspace: str, table: str) -> dict[str, Any]:
    query = "SELECT column_name, type, kind, clustering_order FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s"
    return {row.column_name: row for row in session.execute(query, (keyspace, table))}


@pytest.mark.parametrize("name", ["transactions", "customer_kpis"])
def test_the_table_is_made_as_the_contract_says(session: Session, keyspace: str, name: str) -> None:
    contract = load_contract(Path("include/contracts") / f"{name}.odcs.yaml")
    mapping = contract.cassandra
    assert mapping is not None
    for _ in range(2):  # a repetition changes nothing
        session.execute(cql_table(contract, keyspace=keyspace))
    made = columns_of(session, keyspace, mapping.table)
    assert {column: row.type for column, row in made.items()} == cql_types(contract)
    assert {column for column, row in made.items() if row.kind == "partition_key"} == set(mapping.partition_key)
    assert {column: row.clustering_order.upper() for column, row in made.items() if row.kind == "clustering"} == {
        column: mapping.clustering_order.get(column, "ASC") for column in mapping.clustering_key
    }


def test_every_type_and_every_wider_type_is_taken(session: Session, keyspace: str) -> None:
    columns = {"order": "text"}  # a reserved word
    types: dict[str, str] = {}
    for name, physical in TYPES.items():
        for wider in ("", *physical.wider_cql):
            column = f"from_{name}_{wider}".rstrip("_")
            columns[column] = name
            types |= {column: wider} if wider else {}
    contract = Contract(
        id="all",
        version="1",
        dataset="all",
        path=Path("all.odcs.yaml"),
        fingerprint="",
        columns=tuple(Column(name, "decimal(12,2)" if name == "decimal" else name) for name in TYPES),
        cassandra=CassandraMapping(keyspace, "all_types", ("order", "from_uuid"), ("from_date",), columns, types),
    )
    session.execute(cql_table(contract))
    assert {column: row.type for column, row in columns_of(session, keyspace, "all_types").items()} == cql_types(
        contract
    )
