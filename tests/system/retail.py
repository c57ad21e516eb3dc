"""What the stores hold of a retail day, and what they must hold: comparisons that any test or demo can reuse."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import WhiteListRoundRobinPolicy

from include.shop.totals import customer_totals, day_totals
from stack.settings import LOOPBACK, Settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.sinks.lake_table import receipts_of

RAW_SALES = "/data/raw/transactions"
CENT = Decimal("0.01")


class Kpis(NamedTuple):
    """A customer's day, in dollars."""

    total: Decimal
    count: int
    average: Decimal


@contextmanager
def cassandra_session(settings: Settings) -> Iterator[Session]:
    profile = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([LOOPBACK]), request_timeout=60)
    cluster = Cluster(
        [LOOPBACK],
        port=settings.port("CASSANDRA"),
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
    )
    with cluster:
        yield cluster.connect()


def expected_kpis(day: date) -> dict[str, Kpis]:
    """Every customer's KPIs by the source itself; the average is rounded half up."""
    return {
        str(household): Kpis(
            spent.total, spent.count, (spent.total / spent.count).quantize(CENT, rounding=ROUND_HALF_UP)
        )
        for household, spent in customer_totals(day).items()
    }


def served_kpis(session: Session, day: date) -> dict[str, Kpis]:
    """Every customer's KPIs of that day in Cassandra, also of customers that should have none: a scan of all."""
    rows = session.execute(
        "SELECT customer_id, total_amount, transaction_count, avg_transaction_value FROM pipeline.customer_kpis"
        " WHERE date = %s ALLOW FILTERING",
        (day,),
    )
    return {row.customer_id: Kpis(row.total_amount, row.transaction_count, row.avg_transaction_value) for row in rows}


def expected_ledger(day: date) -> Ledger:
    """The raw load's ledger by the source itself: whole files, no bad line, sales of 0.00 filtered."""
    totals = day_totals(day)
    return Ledger(read=totals.rows, written=totals.positive_rows, filtered=totals.rows - totals.positive_rows)


def raw_receipts(settings: Settings, day: date) -> list[Receipt]:
    """The receipts of all commits of a day's raw sales, newest first."""
    uri = f"hdfs://{LOOPBACK}:{settings.port('HDFS')}{RAW_SALES}"
    return [receipt for receipt in receipts_of(uri) if receipt.window == day.isoformat()]


def kpi_differences(session: Session, day: date) -> list[str]:
    """One line for each customer whose served KPIs are not those of the source; none when the day is exact."""
    expected, served = expected_kpis(day), served_kpis(session, day)
    return [
        f"{day} customer {customer}: source {expected.get(customer)}, Cassandra {served.get(customer)}"
        for customer in sorted({*expected, *served})
        if expected.get(customer) != served.get(customer)
    ]
