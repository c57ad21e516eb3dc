"""Sales from the lake into Cassandra: ours against the driver's usual ways.

    python -m bench.cassandra_load --rows 100000

Each way runs in a process of its own, reads the same Delta table and fills a table of its own in a keyspace that is dropped
afterwards. `transactions` has one row to a partition, `sales_by_household` many (adjacent ones share a batch). Ours does
more than its peers: it refuses contradictory keys, encodes everything once before the first row, reads every key back and
signs; "write only" is ours without reading back, for the comparison of like with like. CPU is the number to trust: per row,
of the load alone (imports and connecting are in the process' totals), and the server's beside it. Per-row `execute` runs on
`--slow-rows` rows, since it waits for the commit log at each.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.measure import Measurement, measure

DAY = "2017-03-05"
PARTS = {"year": 2017, "month": 3, "day": 5}
COLUMNS = {
    "transaction_id": "uuid", "customer_id": "bigint", "product_id": "text", "transaction_date": "timestamp",
    "amount": "decimal", "quantity": "int",
}  # fmt: skip
KEYS = {
    "transactions": (("transaction_id",), ()),
    "sales_by_household": (("customer_id",), ("transaction_date", "transaction_id")),
}


def make_lake(uri: str, rows: int) -> None:
    import numpy as np
    import pyarrow as pa
    from deltalake import write_deltalake

    numbers = np.arange(rows)
    cents = pa.array(numbers % 9_999, pa.int64()).cast(pa.decimal128(19, 0))
    start = np.datetime64(DAY, "us")
    table = pa.table(
        {
            "transaction_id": [str(uuid.UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128)) for number in range(rows)],
            "customer_id": pa.array(numbers // 40),
            "product_id": pa.array((numbers * 7919 % 92_331).astype(str)),
            "transaction_date": pa.array(start + numbers % 86_400_000 * 1_000).cast(pa.timestamp("us", "UTC")),
            "amount": pa.compute.divide(cents, pa.scalar(100, pa.decimal128(3, 0))).cast(pa.decimal128(12, 2), safe=False),
            "quantity": pa.array((numbers % 7).astype("i4")),
            **{name: pa.array(np.full(rows, value, "i4")) for name, value in PARTS.items()},
        }
    )  # fmt: skip
    write_deltalake(uri, table, partition_by=list(PARTS), mode="overwrite")


def run_ours(uri: str, port: int, keyspace: str, table: str, grouping: str, verify: bool) -> dict[str, Any]:
    from tallyclerk.core.window import Window
    from tallyclerk.sinks.cassandra_lake import LakeWindow
    from tallyclerk.sinks.cassandra_upsert import CassandraUpsert, UpsertOptions

    options = UpsertOptions(batch_grouping=grouping, verify_limit_rows=2**62 if verify else 1)  # type: ignore[arg-type]
    with cluster_at(port) as cluster:
        sink = CassandraUpsert(cluster.connect(), _target(keyspace, table), dataset="bench", options=options)
        window = Window.of_day(DAY)
        return costs_of(port, lambda: sink.load(LakeWindow(uri, window.day), window).ledger.written)


def run_execute(uri: str, port: int, keyspace: str, table: str, limit: int) -> dict[str, Any]:
    """`session.execute` for each row, prepared."""
    from itertools import islice

    with cluster_at(port) as cluster:
        session = cluster.connect()
        prepared = session.prepare(_target(keyspace, table).insert_cql)

        def load() -> int:
            written = 0
            for row in islice(_python_rows(uri), limit):
                session.execute(prepared, row)
                written += 1
            return written

        return costs_of(port, load)


def run_concurrent(uri: str, port: int, keyspace: str, table: str) -> dict[str, Any]:
    """`execute_concurrent_with_args`, 100 in flight, every result checked."""
    from cassandra.concurrent import execute_concurrent_with_args

    with cluster_at(port) as cluster:
        session = cluster.connect()
        prepared = session.prepare(_target(keyspace, table).insert_cql)
        results = lambda: execute_concurrent_with_args(  # noqa: E731
            session, prepared, _python_rows(uri), concurrency=100, results_generator=True, raise_on_first_error=True
        )
        return costs_of(port, lambda: sum(1 for success, _ in results() if success))


def _python_rows(uri: str) -> Iterator[tuple[Any, ...]]:
    """The peers' way: Arrow rows as Python values, for the driver to bind."""
    from deltalake import DeltaTable

    for batch in DeltaTable(uri).to_pyarrow_dataset().to_batches(columns=list(COLUMNS)):
        columns = [batch.column(name).to_pylist() for name in COLUMNS]
        columns[0] = [uuid.UUID(text) for text in columns[0]]
        yield from zip(*columns, [1_488_758_400_000_000] * len(batch), strict=True)


def _target(keyspace: str, table: str) -> Any:
    from tallyclerk.sinks.cassandra_table import TargetColumn, TargetTable

    kind = next(name for name in KEYS if table.startswith(name))
    partition, clustering = KEYS[kind]
    columns = tuple(TargetColumn(name, name, cql) for name, cql in COLUMNS.items())
    return TargetTable(keyspace, table, columns, partition, clustering)


def cluster_at(port: int) -> Any:
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

    profile = ExecutionProfile(TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc="datacenter1")), request_timeout=60)
    profiles = {EXEC_PROFILE_DEFAULT: profile}
    return Cluster(["127.0.0.1"], port=port, execution_profiles=profiles, protocol_version=5)


def costs_of(port: int, load: Callable[[], int]) -> dict[str, Any]:
    """Rows, and seconds of client CPU, server CPU and wall time of the load alone."""
    server = _server(port)
    before, server_before, began = _own_cpu(), _cpu_of(server), time.perf_counter()
    rows = load()
    return {
        "rows": rows,
        "client_cpu_seconds": round(_own_cpu() - before, 3),
        "server_cpu_seconds": round(_cpu_of(server) - server_before, 3) if server else None,
        "wall_seconds": round(time.perf_counter() - began, 3),
    }


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _server(port: int) -> Any:
    """The local process that listens on ``port``; None when it is not found."""
    import psutil

    try:
        found = [
            c.pid for c in psutil.net_connections("tcp") if c.status == "LISTEN" and c.laddr.port == port and c.pid
        ]
    except psutil.AccessDenied:
        return None
    return psutil.Process(found[0]) if found else None


def _cpu_of(process: Any) -> float:
    if process is None:
        return 0.0
    times = process.cpu_times()
    return times.user + times.system


def ways(rows: int, slow_rows: int) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Name → table, function and arguments."""
    listed: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for table in KEYS:
        listed[f"{table}: execute per row"] = (table, "run_execute", {"limit": min(rows, slow_rows)})
        listed[f"{table}: execute_concurrent_with_args"] = (table, "run_concurrent", {})
        for grouping in ("none", "partition", "replica_set"):
            listed[f"{table}: ours, {grouping}, write only"] = (
                table,
                "run_ours",
                {"grouping": grouping, "verify": False},
            )
        listed[f"{table}: ours, verified"] = (table, "run_ours", {"grouping": "replica_set", "verify": True})
    return listed


def main() -> int:
    from hdfs_native import Client

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--slow-rows", type=int, default=5_000, help="rows for execute per row")
    parser.add_argument("--port", type=int, default=int(os.environ.get("TALLYCLERK_CASSANDRA_PORT", "9042")))
    parser.add_argument("--only", action="append", default=[], help="ways whose name contains this; may be repeated")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    options = parser.parse_args()
    hdfs = f"hdfs://127.0.0.1:{os.environ.get('TALLYCLERK_HDFS_PORT', '8020')}"
    uri, keyspace = f"{hdfs}/tmp/bench/cassandra_load_{uuid.uuid4().hex[:8]}", f"bench_{uuid.uuid4().hex[:8]}"
    # whoever has to clean up by hand drops this name and no other: runs of others look alike
    print(f"keyspace {keyspace}, lake {uri}", file=sys.stderr, flush=True)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that `finally` drops the keyspace
    make_lake(uri, options.rows)
    measured: dict[str, Measurement] = {}
    with cluster_at(options.port) as cluster:
        session = cluster.connect()
        try:
            for number, (name, (table, function, arguments)) in enumerate(
                ways(options.rows, options.slow_rows).items()
            ):
                if options.only and not any(part in name for part in options.only):
                    continue
                own_table = f"{table}_{number}"
                _create(session, keyspace, own_table)
                where = {"uri": uri, "port": options.port, "keyspace": keyspace, "table": own_table}
                measured[name] = measure(f"bench.cassandra_load:{function}", **where, **arguments)
                print(f"{name}: {measured[name].result}", file=sys.stderr, flush=True)
        finally:
            session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}", timeout=120)
            Client(hdfs).delete(uri.removeprefix(hdfs), recursive=True)
    print(_report(measured))
    if options.json:
        facts = {name: measurement.as_dict() for name, measurement in measured.items()}
        options.json.write_text(json.dumps({"rows": options.rows, "ways": facts}, indent=2) + "\n")
    return 0


def _create(session: Any, keyspace: str, table: str) -> None:
    from tallyclerk.sinks.cassandra_upsert import CassandraUpsert

    CassandraUpsert(session, _target(keyspace, table), dataset="bench").create()


def _report(measured: dict[str, Measurement]) -> str:
    lines = [
        "| way | rows | client µs/row | times less | server µs/row | rows/s | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, measurement in measured.items():
        cost = measurement.result
        client = cost["client_cpu_seconds"] / cost["rows"] * 1e6
        server = (
            f"{cost['server_cpu_seconds'] / cost['rows'] * 1e6:.0f}" if cost["server_cpu_seconds"] is not None else ""
        )
        base = measured.get(f"{name.split(':')[0]}: execute per row")
        ratio = base.result["client_cpu_seconds"] / base.result["rows"] * 1e6 / client if base else float("nan")
        lines.append(
            f"| {name} | {cost['rows']:,} | {client:.0f} | {ratio:.1f} | {server} | {cost['rows'] / cost['wall_seconds']:,.0f} "
            f"| {measurement.peak_rss_mib:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
