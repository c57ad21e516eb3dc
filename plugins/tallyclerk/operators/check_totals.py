"""The last word of a day: three stores, one total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.exceptions import ReconcileError

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context


@dataclass(frozen=True, slots=True)
class DayTotal:
    """Sales lines and their amount of one day in one store."""

    count: int
    amount: Decimal


class CheckTotalsOperator(BaseOperator):
    """Compare a day's sales lines and amount in the cleaned sales, in the KPIs on HDFS and in Cassandra.

    :param days: ISO dates, usually from :class:`~tallyclerk.operators.touched_days.TouchedDaysOperator`. Templated.
    :param sales, kpis: the lake's tables of cleaned sales and of customer KPIs. Templated.
    :param keyspace, table: Cassandra's KPIs.
    :return: for each day, the totals of each store.
    :raises ReconcileError: they differ; every difference is named.
    """

    template_fields: Sequence[str] = ("days", "sales", "kpis")

    def __init__(
        self,
        *,
        days: Sequence[str],
        sales: str = "/data/processed/transactions",
        kpis: str = "/data/enriched/customer_kpis",
        keyspace: str = "pipeline",
        table: str = "customer_kpis",
        hdfs_conn_id: str = "hdfs_default",
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.days, self.sales, self.kpis, self.keyspace, self.table = days, sales, kpis, keyspace, table
        self.hdfs_conn_id, self.cassandra_conn_id = hdfs_conn_id, cassandra_conn_id

    def execute(self, context: Context) -> dict[str, dict[str, dict[str, str]]]:
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.hooks.lake import LakeHook

        lake = LakeHook(self.hdfs_conn_id)
        found: dict[str, dict[str, DayTotal]] = {}
        with CassandraClusterHook(self.cassandra_conn_id) as cassandra:
            for day in self.days:
                date_of_day = date.fromisoformat(day)
                customers, kpis = lake_kpis(lake.uri(self.kpis), date_of_day)
                found[day] = {
                    "processed sales": lake_sales(lake.uri(self.sales), date_of_day),
                    "KPIs on HDFS": kpis,
                    "KPIs in Cassandra": cassandra_kpis(
                        cassandra.session, f"{self.keyspace}.{self.table}", customers, date_of_day
                    ),
                }
        wrong = [
            f"{day}: " + ", ".join(f"{store} {total.count:,} lines, {total.amount}" for store, total in totals.items())
            for day, totals in found.items()
            if len(set(totals.values())) > 1
        ]
        if wrong:
            raise ReconcileError("The stores disagree. " + "; ".join(wrong) + ". Clear the day's run to load it again.")
        for day, totals in found.items():
            self.log.info("%s: %s lines, %s everywhere", day, *asdict(next(iter(totals.values()))).values())
        return {
            day: {store: {"count": str(total.count), "amount": str(total.amount)} for store, total in totals.items()}
            for day, totals in found.items()
        }


def lake_sales(uri: str, day: date) -> DayTotal:
    rows = _day(uri, day, ["sales_value"])
    return DayTotal(rows.num_rows, sum(rows["sales_value"].to_pylist(), Decimal("0.00")))


def lake_kpis(uri: str, day: date) -> tuple[list[str], DayTotal]:
    """The day's customers and their summed KPIs."""
    rows = _day(uri, day, ["customer_id", "total_amount", "transaction_count"])
    return rows["customer_id"].to_pylist(), DayTotal(
        sum(rows["transaction_count"].to_pylist()), sum(rows["total_amount"].to_pylist(), Decimal("0.00"))
    )


def cassandra_kpis(session: Any, table: str, customers: list[str], day: date) -> DayTotal:
    """The summed KPIs of these customers; one that is missing adds nothing, which the comparison then shows."""
    from cassandra.concurrent import execute_concurrent_with_args

    statement = session.prepare(
        f"SELECT total_amount, transaction_count FROM {table} WHERE customer_id = ? AND date = ?"  # noqa: S608 - names of ours
    )
    count, amount = 0, Decimal("0.00")
    answers = execute_concurrent_with_args(
        session, statement, [(customer, day) for customer in customers], concurrency=50, results_generator=True
    )
    for succeeded, rows in answers:
        if not succeeded:
            raise rows
        for row in rows:
            count += row.transaction_count
            amount += row.total_amount
    return DayTotal(count, amount)


def _day(uri: str, day: date, columns: list[str]) -> pa.Table:
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    partition = (pc.field("year") == day.year) & (pc.field("month") == day.month) & (pc.field("day") == day.day)
    return DeltaTable(uri).to_pyarrow_dataset().to_table(columns=columns, filter=partition)
