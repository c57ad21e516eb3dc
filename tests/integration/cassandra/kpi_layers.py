"""Both layers of a keyspace of a test's own: KPIs in a lake and from there in Cassandra, and the rows that the drain would write."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import pyarrow as pa
from cassandra.cluster import Session
from deltalake import DeltaTable, write_deltalake
from hdfs_native import Client

from include.shop.totals import customer_totals
from stack.settings import ROOT
from tallyclerk.contracts import load_contract
from tallyclerk.contracts.projections import arrow_schema, cql_indexes, cql_table
from tallyclerk.operators.close_days import CloseDaysOperator
from tallyclerk.transfers.lake_to_cassandra import LakeToCassandraOperator

BATCH = str(ROOT / "include/contracts/customer_kpis.odcs.yaml")
SPEED = str(ROOT / "include/contracts/customer_kpis_speed.odcs.yaml")
CENT = Decimal("0.01")
_PARTS = ("year", "month", "day")


class Kpi(NamedTuple):
    """Of a customer's day: dollars, sales lines, dollars a line."""

    total: Decimal
    count: int
    average: Decimal


Day = Mapping[str, Kpi]
"""The KPIs by customer."""


def kpi(total: Decimal, count: int) -> Kpi:
    return Kpi(total, count, (total / count).quantize(CENT, rounding=ROUND_HALF_UP))


def sold_on(day: date, customers: int) -> dict[str, Kpi]:
    """What the shop's own totals say of some of a day's customers."""
    totals = customer_totals(day)
    return {str(number): kpi(totals[number].total, totals[number].count) for number in sorted(totals)[:customers]}


@dataclass(frozen=True)
class Layers:
    """:param hdfs: ``hdfs://host:port``. :param session: a plain one, for what no operator writes."""

    session: Session
    hdfs: str
    keyspace: str = field(default_factory=lambda: f"layers_{uuid.uuid4().hex[:12]}")

    @property
    def folder(self) -> str:
        return f"/tmp/tests/kpi-layers/{self.keyspace}"

    @property
    def kpis_uri(self) -> str:
        return f"{self.hdfs}{self.folder}/customer_kpis"

    @contextmanager
    def made(self) -> Iterator[Layers]:
        """The keyspace with the speed layer's table; both, and the lake's folder, are gone afterwards."""
        self.session.execute(
            f"CREATE KEYSPACE {self.keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        try:
            contract = load_contract(SPEED)
            for cql in (cql_table(contract, keyspace=self.keyspace), *cql_indexes(contract, keyspace=self.keyspace)):
                self.session.execute(cql)
            yield self
        finally:
            self.session.execute(f"DROP KEYSPACE {self.keyspace}")
            Client(self.hdfs).delete(self.folder, recursive=True)

    def stream(self, day: date, kpis: Day, *, ttl_seconds: int = 86_400) -> None:
        """Write rows as the drain does."""
        statement = self.session.prepare(
            f"INSERT INTO {self.keyspace}.customer_kpis_speed (customer_id, date, total_amount, transaction_count,"
            f" avg_transaction_value) VALUES (?, ?, ?, ?, ?) USING TTL {ttl_seconds}"
        )
        for customer, values in kpis.items():
            self.session.execute(statement, (customer, day, *values))

    def compute(self, day: date, kpis: Day) -> None:
        """Make the lake's day these KPIs, as the batch job does."""
        rows = [
            dict(zip(("customer_id", "date", *VALUES), (customer, day, *values), strict=True))
            for customer, values in kpis.items()
        ]
        write_day(self.kpis_uri, day, pa.Table.from_pylist(rows, schema=arrow_schema(load_contract(BATCH))))

    def load(self, *days: date, **arguments: Any) -> LakeToCassandraOperator:
        return LakeToCassandraOperator(
            task_id="load", contract=BATCH, source=f"{self.folder}/customer_kpis", keyspace=self.keyspace,
            windows=[day.isoformat() for day in days], allow_empty=True, **arguments,
        )  # fmt: skip

    def close(self, *days: date, **arguments: Any) -> CloseDaysOperator:
        return CloseDaysOperator(
            task_id="close", contract=BATCH, keyspace=self.keyspace, days=[day.isoformat() for day in days], **arguments
        )


VALUES = ("total_amount", "transaction_count", "avg_transaction_value")


def write_day(uri: str, day: date, rows: pa.Table) -> None:
    """Replace a day of a lake's table."""
    parts = dict(zip(_PARTS, day.timetuple()[:3], strict=True))
    for name, value in parts.items():
        rows = rows.append_column(name, pa.array([value] * len(rows), pa.int32()))
    predicate = " AND ".join(f"{name} = {value}" for name, value in parts.items())
    is_there = DeltaTable.is_deltatable(uri)
    write_deltalake(uri, rows, mode="overwrite", partition_by=list(parts), predicate=predicate if is_there else None)


def by_customer(rows: Iterable[Any]) -> dict[str, Kpi]:
    """Rows of the view by customer; a customer that stands twice is an error."""
    listed = [
        (row.customer_id, Kpi(row.total_amount, row.transaction_count, row.avg_transaction_value)) for row in rows
    ]
    found = dict(listed)
    assert len(found) == len(listed), "a customer stands twice"
    return found
