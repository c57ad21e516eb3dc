"""What the page asks of the services themselves, each with little patience: a person waits, and a service may be away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.connections import connections
from tallyclerk.hooks.lake import lake_root
from tallyclerk.sinks.cassandra_client import Backoff
from tallyclerk.sinks.lake_zones import ZONES, tables

if TYPE_CHECKING:
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
    from tallyclerk.hooks.flink import JobSummary
    from tallyclerk.hooks.flink_status import JobStatus
    from tallyclerk.hooks.kafka_connect import ConnectorStatus
    from tallyclerk.serving.kpi_view import KpiView

PATIENCE_SECONDS = 3
_PATIENCE = Backoff(limit_seconds=PATIENCE_SECONDS)
_KEYSPACE = "pipeline"
_lock = threading.Lock()
_cassandra: CassandraClusterHook | None = None


@dataclass(frozen=True, slots=True)
class Rejects:
    """A quarantine table's rows, newest window first, and how many of them have each reason."""

    name: str
    rows: list[dict[str, Any]]
    reasons: list[tuple[str, str, int]]

    @property
    def records(self) -> int:
        return len({(row["window"], row["source"], row["record_number"]) for row in self.rows})


def flink_jobs() -> list[tuple[JobSummary, JobStatus | None]]:
    """The jobs that run, and those of the last failed or ended ones that no running job has followed."""
    from tallyclerk.hooks.flink import FlinkHook
    from tallyclerk.hooks.flink_status import OVER

    with connections():
        hook = FlinkHook(patience_seconds=PATIENCE_SECONDS)
        found = hook.jobs()
        alive = [job for job in found if job.state not in OVER]
        names = {job.name for job in alive}
        over = {job.name: job for job in found if job.state in OVER and job.name not in names}
        return [(job, hook.status(job.job_id)) for job in sorted([*alive, *over.values()], key=lambda job: job.name)]


def connectors() -> list[tuple[str, ConnectorStatus | None]]:
    from tallyclerk.hooks.kafka_connect import KafkaConnectHook

    with connections():
        hook = KafkaConnectHook(rebalance_limit_seconds=2, patience_seconds=PATIENCE_SECONDS)
        return [(name, hook.status(name)) for name in hook.connectors()]


def lake_receipts() -> list[tuple[str, Receipt]]:
    """The newest receipt of each of the lake's tables, as its own log has it; also of those that Spark writes."""
    from tallyclerk.cli.lake import receipts

    root = lake_root()
    found = [(uri.partition("/data/")[2], receipts(uri, limit=10)) for uri in tables(root, ZONES)]
    return [(name, told[0]) for name, told in found if told]


def committed(receipt: Receipt) -> Receipt | None:
    """What the sink itself has committed for the receipt's load last; None where it knows nothing of it.

    :raises SpecError: receipts of such a sink cannot be asked for.
    """
    scheme = urlsplit(receipt.location).scheme
    if scheme == "hdfs":
        from tallyclerk.cli.lake import receipts

        lake_root()
        held = (each for each in receipts(receipt.location) if each.load == receipt.load)
        return next(held, None)
    if scheme == "kafka":
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
        from tallyclerk.sinks.kafka_commits import newest_commits

        with connections():
            client = {**KafkaClusterHook().client_config, "socket.timeout.ms": 3000}
            return newest_commits(client, receipt.dataset, limit_seconds=3).receipt(receipt.load)
    if scheme == "cassandra":
        return _in_cassandra(receipt)
    raise SpecError(f"{receipt.location!r} is of no sink that keeps receipts.")


def rejects(name: str | None = None) -> list[Rejects]:
    """What is in quarantine: one entry for each table, or that of ``name``."""
    from deltalake import DeltaTable

    found = []
    for uri in tables(lake_root(), ("quarantine",)):
        own = uri.rpartition("/")[2]
        if name not in (None, own) or not DeltaTable.is_deltatable(uri):
            continue
        rows = DeltaTable(uri).to_pyarrow_dataset().to_table().to_pylist()
        rows.sort(key=lambda row: (row["window"], row["source"], -row["record_number"]), reverse=True)
        counts: dict[tuple[str, str], int] = {}
        for row in rows:
            key = (row["column"] or "", row["reason"])
            counts[key] = counts.get(key, 0) + 1
        reasons = sorted(((*key, count) for key, count in counts.items()), key=lambda each: -each[2])
        found.append(Rejects(own, rows, reasons))
    return found


@contextmanager
def kpi_view() -> Iterator[KpiView]:
    """The view over one session that is kept: to connect takes longer than all it is asked."""
    from tallyclerk.serving.kpi_view import KpiView

    hook = _session()
    yield KpiView(hook.session, hook.keyspace or _KEYSPACE, backoff=hook.backoff, address=hook.address)


def _session() -> CassandraClusterHook:
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook

    global _cassandra
    with _lock:
        if _cassandra is None:
            with connections():
                hook = CassandraClusterHook(backoff=_PATIENCE)
                hook.session  # noqa: B018 - connects, or raises
            _cassandra = hook
        return _cassandra


def _in_cassandra(receipt: Receipt) -> Receipt | None:
    from tallyclerk.sinks.cassandra_loads import LoadsTable

    hook = _session()
    _, keyspace, target = urlsplit(receipt.location).path.split("/", 2)
    table = LoadsTable(
        hook.session, keyspace=keyspace, dataset=receipt.dataset, target=target, backoff=hook.backoff, address=hook.address
    )  # fmt: skip
    signed = next((load for load in table.history(Window.of_day(receipt.window)) if load.receipt), None)
    return replace(signed.receipt, version=signed.generation) if signed and signed.receipt else None
