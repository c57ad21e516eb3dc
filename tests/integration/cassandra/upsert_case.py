"""A lake table and a Cassandra table of a test's own. What is expected comes from the Arrow data, read back by a plain session."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import ConstantReconnectionPolicy, DCAwareRoundRobinPolicy, TokenAwarePolicy
from deltalake import DeltaTable, write_deltalake

from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.sinks.cassandra_lake import LakeWindow
from tallyclerk.sinks.cassandra_table import TargetColumn, TargetTable
from tallyclerk.sinks.cassandra_upsert import CassandraUpsert, UpsertOptions

DAY = date(2017, 3, 5)
WINDOW = Window.of_day(DAY)
SALES = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("household", pa.int64()),
        pa.field("amount", pa.decimal128(12, 2)),
        pa.field("quantity", pa.int32()),
        pa.field("note", pa.string()),
    ]
)
COLUMNS = (
    TargetColumn("id", "id", "uuid"),
    TargetColumn("household", "household", "text"),
    TargetColumn("amount", "amount", "decimal"),
    TargetColumn("quantity", "quantity", "int"),
    TargetColumn("note", "note", "text"),
)


def connect(port: int) -> Cluster:
    profile = ExecutionProfile(TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc="datacenter1")), request_timeout=30)
    return Cluster(
        ["127.0.0.1"], port=port, execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(1, max_attempts=None), protocol_version=5,
    )  # fmt: skip


def sales(count: int, *, first: int = 0, **columns: list[Any]) -> pa.Table:
    """``count`` rows with ids of their own; ``columns`` replaces whole columns."""
    numbers = range(first, first + count)
    data: dict[str, list[Any]] = {
        "id": [str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in numbers],
        "household": [number % 97 for number in numbers],
        "amount": [Decimal(number) / 100 for number in numbers],
        "quantity": [number % 7 for number in numbers],
        "note": [f"row {number}" for number in numbers],
    }
    return pa.table({**data, **columns}, schema=SALES)


def expected_sales(table: pa.Table) -> dict[uuid.UUID, tuple[Any, ...]]:
    return {
        uuid.UUID(row["id"]): (str(row["household"]), row["amount"], row["quantity"], row["note"])
        for row in table.to_pylist()
    }


@dataclass(frozen=True)
class Case:
    """:param uri: of the lake table. :param keyspace: of the test module."""

    session: Session
    uri: str
    target: TargetTable

    def write_lake(self, rows: pa.Table, day: date = DAY) -> int:
        """Replace a day; returns the version."""
        parts = {"year": day.year, "month": day.month, "day": day.day}
        for name, value in parts.items():
            rows = rows.append_column(name, pa.array([value] * len(rows), pa.int32()))
        exists = DeltaTable.is_deltatable(self.uri)
        predicate = " AND ".join(f"{name} = {value}" for name, value in parts.items())
        write_deltalake(
            self.uri, rows, mode="overwrite", partition_by=list(parts), predicate=predicate if exists else None
        )
        return DeltaTable(self.uri).version()

    def sink(self, session: Session | None = None, **options: Any) -> CassandraUpsert:
        return CassandraUpsert(session or self.session, self.target, dataset="sales", options=UpsertOptions(**options))

    def load(
        self, *, version: int | None = None, day: date = DAY, session: Session | None = None, **options: Any
    ) -> Receipt:
        return self.sink(session, **options).load(LakeWindow(self.uri, day, version=version), Window.of_day(day))

    def rows(self) -> dict[uuid.UUID, tuple[Any, ...]]:
        found = self.session.execute(f"SELECT id, household, amount, quantity, note FROM {self.target.cql_name}")
        return {row[0]: tuple(row[1:]) for row in found}

    def write_times(self) -> set[int]:
        return {row[0] for row in self.session.execute(f"SELECT writetime(amount) FROM {self.target.cql_name}")}


def new_target(keyspace: str) -> TargetTable:
    return TargetTable(keyspace, f"sales_{uuid.uuid4().hex[:12]}", COLUMNS, ("id",))
