"""What the services say of themselves at the moment of the scrape: all are asked at once.

One that refuses connections costs nothing; one that takes them and is silent is waited for ``PATIENCE_SECONDS``, and one
that answers but slowly for ``LIMIT_SECONDS``: Prometheus, which waits 20 s, always has its answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime

from tallyclerk.exceptions import SpecError, TerminalError, TransientError
from tallyclerk.monitoring import measures
from tallyclerk.monitoring.measures import Measured

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 3
LIMIT_SECONDS = 10


def measure_flink() -> Measured:
    """Jobs by name. A job whose tasks do not all run is not running, whatever Flink's own word is."""
    from tallyclerk.ui.services import flink_jobs

    found, now = Measured(), datetime.now(UTC)
    for job, status in flink_jobs():
        if job.state in ("FINISHED", "CANCELED"):
            continue  # it was asked to
        found.add(measures.FLINK_RUNNING, status is not None and status.is_running, flink_job=job.name)
        if status is None:
            continue
        found.add(measures.FLINK_RESTARTS, status.restarts, flink_job=job.name)
        # one that never completes a checkpoint is as bad as one that no longer does
        since = job.started_at if status.newest is None else status.newest.completed_at
        found.add(measures.FLINK_CHECKPOINT, max(0.0, (now - since).total_seconds()), flink_job=job.name)
    return found


def measure_connectors() -> Measured:
    from tallyclerk.hooks.kafka_connect import FAILED, PAUSED, RUNNING
    from tallyclerk.ui.services import connectors

    found = Measured()
    for name, status in connectors():
        if status is None:
            continue
        found.add(measures.CONNECTOR_FAILED, status.connector.state == FAILED, connector=name)
        for state in (RUNNING, PAUSED, FAILED):
            count = sum(task.state == state for task in status.tasks)
            found.add(measures.CONNECTOR_TASKS, count, connector=name, state=state.lower())
    return found


def measure_slots() -> Measured:
    """The replication slots of the shop's database."""
    import psycopg
    from airflow.sdk import BaseHook
    from psycopg.conninfo import make_conninfo

    from tallyclerk.exceptions import ServiceUnavailableError
    from tallyclerk.hooks.connections import connections

    with connections():
        database = BaseHook.get_connection("shop_db")
    address = f"{database.host}:{database.port or 5432}"
    conninfo = make_conninfo(
        host=database.host, port=database.port or 5432, dbname=database.schema, user=database.login,
        password=database.password, connect_timeout=PATIENCE_SECONDS,
        options=f"-c statement_timeout={PATIENCE_SECONDS * 1000}",
        **{key: str(value) for key, value in database.extra_dejson.items() if key.startswith("ssl")},
    )  # fmt: skip
    try:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            rows = connection.execute(
                "SELECT slot_name, active, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0) "
                "FROM pg_replication_slots WHERE database = current_database()"
            ).fetchall()
    except psycopg.OperationalError as error:
        raise ServiceUnavailableError(service="PostgreSQL", address=address, cause=str(error).strip()) from error
    found = Measured()
    for slot, active, retained in rows:
        found.add(measures.SLOT_BYTES, float(retained), slot=slot)
        found.add(measures.SLOT_ACTIVE, active, slot=slot)
    return found


def measure_lag() -> Measured:
    """How far the drains are behind, by the groups that mirror their positions. A group is named after its data set and table."""
    from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException
    from confluent_kafka.admin import AdminClient, OffsetSpec

    from tallyclerk.hooks.connections import connections
    from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
    from tallyclerk.sinks.kafka_errors import kafka_errors

    with connections():
        hook = KafkaClusterHook()
        config = dict(hook.client_config)
    found = Measured()
    with kafka_errors(address=config["bootstrap.servers"], what="the groups' offsets"):
        admin = AdminClient({**config, "log_level": 0})
        listed = admin.list_consumer_groups(request_timeout=PATIENCE_SECONDS).result()
        if listed.errors:  # of a broker that is away or silent: its groups would be missing unnoticed
            raise KafkaException(listed.errors[0])
        for group in sorted(each.group_id for each in listed.valid if each.group_id.startswith("tallyclerk.")):
            asked = admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=PATIENCE_SECONDS
            )
            held = [each for each in asked[group].result().topic_partitions if each.offset >= 0]
            ends = admin.list_offsets(
                {each: OffsetSpec.latest() for each in held},
                isolation_level=IsolationLevel.READ_COMMITTED,
                request_timeout=PATIENCE_SECONDS,
            )
            positions = {(each.topic, each.partition): each.offset for each in held}
            lags: dict[str, int] = {}
            for each, end in ends.items():
                behind = max(0, end.result().offset - positions[each.topic, each.partition])
                lags[each.topic] = lags.get(each.topic, 0) + behind
            for topic, lag in lags.items():
                found.add(measures.LAG_ROWS, lag, group=group, topic=topic)
    return found


QUESTIONS: Mapping[str, Callable[[], Measured]] = {
    "flink": measure_flink,
    "connect": measure_connectors,
    "kafka": measure_lag,
    "postgres": measure_slots,
}


def measure_services(questions: Mapping[str, Callable[[], Measured]] = QUESTIONS) -> Measured:
    """Every service's measures, and whether it has answered. One that is away is a measure, no error."""
    found = Measured()
    pool = ThreadPoolExecutor(len(questions), thread_name_prefix="tallyclerk-metrics")
    try:
        asked = {service: pool.submit(_asked, service, ask) for service, ask in questions.items()}
        wait(asked.values(), LIMIT_SECONDS)
        for service, answer in asked.items():
            if answer.done():
                found.take(answer.result())
            else:
                log.warning("no metrics of %s: it has not told all within %d s", service, LIMIT_SECONDS)
                found.add(measures.UP, False, service=service)
                found.add(measures.ANSWER_SECONDS, LIMIT_SECONDS, service=service)
    finally:
        pool.shutdown(wait=False)  # a question that is still open ends by its own hook's patience
    return found


def _asked(service: str, ask: Callable[[], Measured]) -> Measured:
    started = time.monotonic()
    try:
        found = ask()
        answered = True
    except (TransientError, TerminalError, SpecError) as error:
        log.warning("no metrics of %s: %s", service, error)
        found, answered = Measured(), False
    found.add(measures.UP, answered, service=service)
    found.add(measures.ANSWER_SECONDS, time.monotonic() - started, service=service)
    return found
