"""The last task of a day: it agrees when three stores do, and names the numbers when one does not."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pytest
from cassandra.cluster import Session
from deltalake import write_deltalake
from hdfs_native import Client

from stack.settings import LOOPBACK, load_settings
from tallyclerk.exceptions import ReconcileError
from tallyclerk.operators.check_totals import CheckTotalsOperator
from tests.integration.cassandra.upsert_case import connect
from tests.running import RunTask

pytestmark = pytest.mark.integration
DAY = date(2026, 3, 10)
SALES = {"7": ["1.10", "2.20"], "9": ["0.05"]}
"""Of each customer, what each line cost: 3 lines, 3.35."""


@dataclass(frozen=True)
class Stores:
    """A day in the lake and in Cassandra, in places of the test's own."""

    session: Session
    keyspace: str
    lake: str

    def check(self) -> CheckTotalsOperator:
        return CheckTotalsOperator(
            task_id="check", days=[DAY.isoformat()], sales=f"{self.lake}/sales", kpis=f"{self.lake}/kpis",
            keyspace=self.keyspace,
        )  # fmt: skip

    def serve(self, customer: str, count: int, amount: str) -> None:
        self.session.execute(
            f"INSERT INTO {self.keyspace}.customer_kpis (customer_id, date, total_amount, transaction_count)"
            " VALUES (%s, %s, %s, %s)",
            (customer, DAY, Decimal(amount), count),
        )


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stores]:
    settings = load_settings()
    address, name = f"hdfs://{LOOPBACK}:{settings.port('HDFS')}", f"totals_{uuid.uuid4().hex[:12]}"
    for connection, facts in {
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "cassandra_default": {"conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA")},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{connection.upper()}", json.dumps(facts))
    lines = [Decimal(amount) for amounts in SALES.values() for amount in amounts]
    day = {"year": DAY.year, "month": DAY.month, "day": DAY.day}
    tables = {
        "sales": {"sales_value": lines},
        "kpis": {
            "customer_id": list(SALES),
            "total_amount": [sum(map(Decimal, amounts)) for amounts in SALES.values()],
            "transaction_count": [len(amounts) for amounts in SALES.values()],
        },
    }
    with connect(settings.port("CASSANDRA")) as cluster:
        session = cluster.connect()
        session.execute(
            f"CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
        )
        try:
            session.execute(
                f"CREATE TABLE {name}.customer_kpis (customer_id text, date date, total_amount decimal,"
                " transaction_count int, PRIMARY KEY (customer_id, date))"
            )
            made = Stores(session, name, f"/tmp/tests/check-totals/{name}")
            for table, columns in tables.items():
                rows = len(next(iter(columns.values())))
                data = pa.table({**columns, **{part: pa.array([value] * rows) for part, value in day.items()}})
                write_deltalake(f"{address}{made.lake}/{table}", data, partition_by=list(day))
            for customer, amounts in SALES.items():
                made.serve(customer, len(amounts), str(sum(map(Decimal, amounts))))
            yield made
        finally:
            session.execute(f"DROP KEYSPACE {name}")
            Client(address).delete(f"/tmp/tests/check-totals/{name}", recursive=True)


def test_the_day_is_done_when_three_stores_hold_the_same(stores: Stores, run_task: RunTask) -> None:
    run = run_task(stores.check())
    total = {"count": "3", "amount": "3.35"}
    assert run.value == {
        "2026-03-10": {"processed sales": total, "KPIs on HDFS": total, "KPIs in Cassandra": total}
    }  # fmt: skip


def test_the_numbers_are_named_when_cassandra_is_a_cent_off(stores: Stores, run_task: RunTask) -> None:
    stores.serve("9", 1, "0.06")
    with pytest.raises(ReconcileError, match=r"KPIs on HDFS 3 lines, 3\.35, KPIs in Cassandra 3 lines, 3\.36"):
        run_task(stores.check())


def test_the_day_is_not_done_when_cassandra_misses_a_customer(stores: Stores, run_task: RunTask) -> None:
    stores.session.execute(f"DELETE FROM {stores.keyspace}.customer_kpis WHERE customer_id = '9'")
    with pytest.raises(ReconcileError, match=r"KPIs in Cassandra 2 lines, 3\.30"):
        run_task(stores.check())
