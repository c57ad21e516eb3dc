"""``airflow tallyclerk kpis``: what Cassandra serves."""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import date
from typing import Any

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK, command, complain
from tallyclerk.cli.lake import connections, lake_root, print_table
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
from tallyclerk.sinks.cassandra_client import Backoff

_COLUMNS = ["customer_id", "date", "total_amount", "transaction_count", "avg_transaction_value"]
_TABLE = "pipeline.customer_kpis"


@command
def kpis(args: Namespace) -> int:
    """Print a customer's days, or a day's best customers; exit code 1 when Cassandra has none."""
    if not args.customer and not args.date:
        raise SpecError("Give --date, --customer, or both.")
    day = Window.of_day(args.date).day if args.date else None
    found = _served(_customers(day, args.limit) if not args.customer and day else [args.customer], day, args.limit)
    if not found:
        complain("Cassandra has no KPIs for this; run `airflow dags trigger retail_daily` for the day.")
        return EXIT_FAILED
    if args.output == "json":
        print(json.dumps(found, indent=2, default=str))
    else:
        print_table(_COLUMNS, ([str(row[column]) for column in _COLUMNS] for row in found))
    return EXIT_OK


def _customers(day: date, limit: int) -> list[str]:
    """The day's best customers by the lake's KPIs: Cassandra's table is keyed by customer, not by day."""
    import pyarrow.compute as pc
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    partition = (pc.field("year") == day.year) & (pc.field("month") == day.month) & (pc.field("day") == day.day)
    root = lake_root()
    try:
        table = DeltaTable(f"{root}/data/enriched/customer_kpis")
    except TableNotFoundError:
        return []
    rows = table.to_pyarrow_dataset().to_table(columns=["customer_id", "total_amount"], filter=partition)
    best = rows.sort_by([("total_amount", "descending"), ("customer_id", "ascending")])
    return list(best["customer_id"].to_pylist()[:limit])


def _served(customers: list[str], day: date | None, limit: int) -> list[dict[str, Any]]:
    # a person waits at the terminal: a node that is away is told soon
    with connections(), CassandraClusterHook(backoff=Backoff(limit_seconds=10)) as cassandra:
        query = f"SELECT * FROM {_TABLE} WHERE customer_id = ?" + (" AND date = ?" if day else "")  # noqa: S608
        statement = cassandra.session.prepare(f"{query} LIMIT {int(limit)}")
        rows = [
            row
            for customer in customers
            for row in cassandra.session.execute(statement, (customer, day) if day else (customer,))
        ]
    return [{column: getattr(row, column) for column in _COLUMNS} for row in rows]
