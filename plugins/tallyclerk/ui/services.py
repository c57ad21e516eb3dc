"""What the page asks of the services themselves, each with little patience: a person waits, and a service may be away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.connections import connections
from tallyclerk.hooks.lake import lake_root
from tallyclerk.sinks.cassandra_client import Backoff
from tallyclerk.sinks.lake_log import LakeLog
from tallyclerk.sinks.lake_table import receipts_of
from tallyclerk.sinks.lake_zones import ZONES, tables

if TYPE_CHECKING:
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
    from tallyclerk.hooks.flink import JobSummary
    from tallyclerk.hooks.flink_status import JobStatus
    from tallyclerk.hooks.kafka_connect import ConnectorStatus
    from tallyclerk.serving.kpi_view import KpiView

PATIENCE_SECONDS = 3
_PATIENCE = Backoff(limit_seconds=PATIENCE_SECONDS)
KEYSPACE = "pipeline"
_lock = threading.Lock()
_cassandra: CassandraClusterHook | None = None


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
    ends = ((uri.partition("/data/")[2], log_of(uri).end()) for uri in tables(lake_root(), ZONES))
    return [(name, end.receipt) for name, end in ends if end and end.receipt]


def committed(receipt: Receipt) -> Receipt | None:
    """What the sink itself has committed for the receipt's load last; None where it knows nothing of it.

    :raises SpecError: receipts of such a sink cannot be asked for.
    """
    scheme = urlsplit(receipt.location).scheme
    if scheme == "hdfs":
        return _in_the_lake(receipt)
    if scheme == "kafka":
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
        from tallyclerk.sinks.kafka_commits import newest_commits

        with connections():
            client = {**KafkaClusterHook().client_config, "socket.timeout.ms": 3000}
            return newest_commits(client, receipt.dataset, limit_seconds=3).receipt(receipt.load)
    if scheme == "cassandra":
        return _in_cassandra(receipt)
    raise SpecError(f"{receipt.location!r} is of no sink that keeps receipts.")


@contextmanager
def kpi_view() -> Iterator[KpiView]:
    """The view over the session that is kept."""
    from tallyclerk.serving.kpi_view import KpiView

    hook = cassandra_hook()
    yield KpiView(hook.session, hook.keyspace or KEYSPACE, backoff=hook.backoff, address=hook.address)


def cassandra_hook() -> CassandraClusterHook:
    """One session that is kept: to connect takes longer than all it is asked.

    :raises ServiceUnavailableError: Cassandra is away.
    """
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook

    global _cassandra
    with _lock:
        if _cassandra is None:
            with connections():
                hook = CassandraClusterHook(backoff=_PATIENCE)
                hook.session  # noqa: B018 - connects, or raises
            _cassandra = hook
        return _cassandra


@cache
def log_of(uri: str) -> LakeLog:
    """A table's log, kept from one question to the next."""
    return LakeLog(uri)


def _in_the_lake(receipt: Receipt) -> Receipt | None:
    """From the newest commit, or from all of the log where others have come since."""
    lake_root()
    log = log_of(receipt.location)
    if (end := log.end()) is None:
        return None
    if end.receipt is not None and end.receipt.load == receipt.load:
        return end.receipt
    committed = log.look(lambda: receipts_of(receipt.location)) or []
    return next((each for each in committed if each.load == receipt.load), None)


def _in_cassandra(receipt: Receipt) -> Receipt | None:
    from tallyclerk.sinks.cassandra_loads import LoadsTable

    hook = cassandra_hook()
    _, keyspace, target = urlsplit(receipt.location).path.split("/", 2)
    table = LoadsTable(
        hook.session, keyspace=keyspace, dataset=receipt.dataset, target=target, backoff=hook.backoff, address=hook.address
    )  # fmt: skip
    signed = next((load for load in table.history(Window.of_day(receipt.window)) if load.receipt), None)
    return replace(signed.receipt, version=signed.generation) if signed and signed.receipt else None
