"""The CREATE TABLE statements of the contracts before a real Cassandra, in a keyspace of the test's own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session

from tallyclerk.contracts import load_contract
from tallyclerk.contracts.model import CassandraMapping, Column, Contract
from tallyclerk.contracts.physical_types import TYPES
from tallyclerk.contracts.projections import cql_indexes, cql_table, cql_types
from tallyclerk.exceptions import SchemaMismatchError
from tallyclerk.sinks.cassandra_table import TargetTable, check_live_schema

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with new_cluster() as cluster:
        yield cluster.connect()


def new_cluster() -> Cluster:
    port = int(os.environ.get("TALLYCLERK_CASSANDRA_PORT", "9042"))
    profile = ExecutionProfile(request_timeout=60)
    return Cluster(["127.0.0.1"], port=port, execution_profiles={EXEC_PROFILE_DEFAULT: profile})


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
    for cql in 2 * [cql_table(contract, keyspace=keyspace), *cql_indexes(contract, keyspace=keyspace)]:
        session.execute(cql)  # a repetition changes nothing
    made = columns_of(session, keyspace, mapping.table)
    assert {column: row.type for column, row in made.items()} == cql_types(contract)
    assert {column for column, row in made.items() if row.kind == "partition_key"} == set(mapping.partition_key)
    assert {column: row.clustering_order.upper() for column, row in made.items() if row.kind == "clustering"} == {
        column: mapping.clustering_order.get(column, "ASC") for column in mapping.clustering_key
    }
    query = "SELECT options FROM system_schema.indexes WHERE keyspace_name = %s AND table_name = %s"
    assert [
        (row.options["target"], row.options["class_name"]) for row in session.execute(query, (keyspace, mapping.table))
    ] == [(column, "sai") for column in mapping.indexes]


def test_there_is_one_index_when_several_sessions_make_it_at_once(session: Session, keyspace: str) -> None:
    contract = load_contract("include/contracts/customer_kpis_speed.odcs.yaml")
    target = TargetTable.from_contract(contract, keyspace=keyspace)
    session.execute(target.create_cql)
    session.cluster.refresh_keyspace_metadata(keyspace)
    with pytest.raises(SchemaMismatchError, match="column date has no index"):
        check_live_schema(session, target)
    barrier = threading.Barrier(4)

    def make(other: Session) -> None:
        barrier.wait()
        for cql in target.index_cqls:
            other.execute(cql)

    with ExitStack() as stack:
        others = [stack.enter_context(new_cluster()).connect() for _ in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, others))
    session.cluster.refresh_table_metadata(keyspace, target.table)
    check_live_schema(session, target)


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
