"""The last word of a day: every store, one total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.exceptions import ReconcileError

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context

    from tallyclerk.contracts.model import CassandraMapping


@dataclass(frozen=True, slots=True)
class DayTotal:
    """Sales lines and their amount of one day in one store."""

    count: int
    amount: Decimal


class CheckTotalsOperator(BaseOperator):
    """Compare a day's sales lines and amount in the cleaned sales, in each table of KPIs on HDFS and in Cassandra.

    :param days: ISO dates, usually from :class:`~tallyclerk.operators.touched_days.TouchedDaysOperator`. Templated.
    :param kpis: the lake's tables of KPIs, each with the path of its contract, which names its table in Cassandra. Templated.
    :param sales: the lake's table of cleaned sales. Templated.
    :param keyspace: instead of the contracts'. Templated.
    :return: for each day, the totals of each store.
    :raises ReconcileError: they differ; every difference is named.
    :raises ServiceUnavailableError: Cassandra stayed away for longer than the hook waits.
    """

    template_fields: Sequence[str] = ("days", "kpis", "sales", "keyspace")

    def __init__(
        self,
        *,
        days: Sequence[str],
        kpis: Mapping[str, str],
        sales: str = "/data/processed/transactions",
        keyspace: str | None = None,
        hdfs_conn_id: str = "hdfs_default",
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.days, self.kpis, self.sales, self.keyspace = days, kpis, sales, keyspace
        self.hdfs_conn_id, self.cassandra_conn_id = hdfs_conn_id, cassandra_conn_id

    def execute(self, context: Context) -> dict[str, dict[str, dict[str, str]]]:
        from tallyclerk.contracts import load_contract
        from tallyclerk.contracts.projections import cassandra_mapping
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.hooks.lake import LakeHook
        from tallyclerk.sinks.cassandra_client import retrying

        lake = LakeHook(self.hdfs_conn_id)
        mappings = {path: cassandra_mapping(load_contract(contract)) for path, contract in self.kpis.items()}
        found: dict[str, dict[str, DayTotal]] = {}
        with CassandraClusterHook(self.cassandra_conn_id) as cassandra:
            for day in self.days:
                date_of_day = date.fromisoformat(day)
                found[day] = {"processed sales": lake_sales(lake.uri(self.sales), date_of_day)}
                for path, mapping in mappings.items():
                    keys, total = lake_kpis(lake.uri(path), mapping.partition_key[0], date_of_day)
                    found[day][f"{mapping.table} on HDFS"] = total
                    keyspace = self.keyspace or mapping.keyspace
                    found[day][f"{mapping.table} in Cassandra"] = retrying(
                        partial(cassandra_kpis, cassandra.session, keyspace, mapping, keys, date_of_day),
                        backoff=cassandra.backoff, address=cassandra.address, what="read KPIs",
                    )  # fmt: skip
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
    rows = lake_day(uri, day, ["sales_value"])
    return DayTotal(rows.num_rows, sum(rows["sales_value"].to_pylist(), Decimal("0.00")))


def lake_kpis(uri: str, key: str, day: date) -> tuple[list[str], DayTotal]:
    """The day's keys (customers, departments) and their summed KPIs."""
    rows = lake_day(uri, day, [key, "total_amount", "transaction_count"])
    return rows[key].to_pylist(), DayTotal(
        sum(rows["transaction_count"].to_pylist()), sum(rows["total_amount"].to_pylist(), Decimal("0.00"))
    )


def cassandra_kpis(session: Any, keyspace: str, mapping: CassandraMapping, keys: list[str], day: date) -> DayTotal:
    """The summed KPIs of these keys; one that is missing adds nothing, which the comparison then shows."""
    from cassandra.concurrent import execute_concurrent_with_args

    statement = session.prepare(
        f"SELECT total_amount, transaction_count FROM {keyspace}.{mapping.table} "  # noqa: S608 - names of a contract
        f"WHERE {mapping.partition_key[0]} = ? AND date = ?"
    )
    count, amount = 0, Decimal("0.00")
    answers = execute_concurrent_with_args(
        session, statement, [(key, day) for key in keys], concurrency=50, results_generator=True
    )
    for succeeded, rows in answers:
        if not succeeded:
            raise rows
        for row in rows:
            count += row.transaction_count
            amount += row.total_amount
    return DayTotal(count, amount)


def lake_day(uri: str, day: date, columns: list[str]) -> pa.Table:
    """A day of a table that is partitioned by year, month and day."""
    from deltalake import DeltaTable

    from tallyclerk.sinks.lake_table import on_day

    return DeltaTable(uri).to_pyarrow_dataset().to_table(columns=columns, filter=on_day(day))
