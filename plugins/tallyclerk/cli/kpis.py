"""``airflow tallyclerk kpis``: what the view over both layers answers."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import asdict
from datetime import datetime

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK, command, complain
from tallyclerk.cli.lake import print_table
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
from tallyclerk.hooks.connections import connections
from tallyclerk.serving.kpi_view import KpiRow, KpiView
from tallyclerk.sinks.cassandra_client import Backoff

_KEYSPACE = "pipeline"


@command
def kpis(args: Namespace) -> int:
    """Print a customer's days, newest first, or a day's best customers; exit code 1 when neither layer has any."""
    if not args.customer and not args.date:
        raise SpecError("Give --date, --customer, or both.")
    day = Window.of_day(args.date).day if args.date else None
    # a person waits at the terminal: a node that is away is told soon
    with connections(), CassandraClusterHook(backoff=Backoff(limit_seconds=10)) as cassandra:
        view = KpiView(
            cassandra.session, cassandra.keyspace or _KEYSPACE, backoff=cassandra.backoff, address=cassandra.address
        )
        if args.customer:
            found = view.customer(args.customer, day, day)[: args.limit]
        else:
            assert day is not None
            found = view.day(day, args.limit)
    if not found:
        complain(
            "Neither layer has KPIs for this. A day's come with `airflow dags trigger retail_daily` (also where the day was "
            "loaded before days were closed), today's with the DAG `retail_stream`."
        )
        return EXIT_FAILED
    if args.output == "json":
        print(json.dumps([asdict(row) for row in found], indent=2, default=_plain))
    else:
        heads = list(KpiRow.__dataclass_fields__)
        print_table(heads, ([_shown(getattr(row, head)) for head in heads] for row in found))
    return EXIT_OK


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _shown(value: object) -> object:
    """Amounts and ids as they are, without a separator of thousands."""
    return value if value is None or isinstance(value, datetime) else str(value)
