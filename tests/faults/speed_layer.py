"""The whole speed layer on an instance of a test's own: sales that come under load, the KPI job, the drain, and their keepers.

What Airflow does with a task that failed or died, its keeper here does: begin it again. Run as a program, this is the drain's task:
``speed_layer.py '{"AIRFLOW_CONN_...": "...", ...}'`` drains until it is killed or stopped.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from airflow.sdk import DAG
from cassandra.cluster import Session
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stack.processes import wait_until
from stack.services import kafka
from stack.settings import LOOPBACK, ROOT, Settings, load_settings
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import TransientError
from tallyclerk.operators.flink_sql_job import FlinkSqlJobOperator
from tallyclerk.sinks.kafka_encoding import JsonEncoder
from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
from tests.integration.flink.flink_job_case import run_to_end

LIMIT_SECONDS = 600
CUSTOMERS = 40
KEYSPACE = "pipeline"
SALES = pa.schema(
    [
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("household_id", pa.int64(), nullable=False),
        pa.field("sales_value", pa.decimal128(12, 2), nullable=False),
        pa.field("transaction_timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
    ]
)
_TOPICS = ("transactions", "tallyclerk.commits")


def connections(settings: Settings) -> dict[str, str]:
    """What Airflow would look up, as environment variables. The lake is the running stack's: only rejects would go there."""
    facts: dict[str, dict[str, Any]] = {
        "kafka_default": {"conn_type": "kafka", "extra": {"bootstrap.servers": kafka.bootstrap(settings)}},
        "cassandra_default": {
            "conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA"), "schema": KEYSPACE,
        },
        "flink_default": {"conn_type": "flink", "host": LOOPBACK, "port": settings.port("FLINK")},
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": load_settings().port("HDFS")}},
    }  # fmt: skip
    found = {f"AIRFLOW_CONN_{name.upper()}": json.dumps(each) for name, each in facts.items()}
    return {**found, "TALLYCLERK_FLINK_JARS": str(settings.jars("flink"))}


class Keeper:
    """Works in a thread of its own while its block lasts."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        self._thread = threading.Thread(target=self.work)

    def work(self) -> None:
        """Until :attr:`is_over`."""
        raise NotImplementedError

    def end(self) -> None:
        """What has to be ended for :meth:`work` to return."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_over.set()
        self.end()
        self._thread.join(LIMIT_SECONDS)
        assert not self._thread.is_alive()


class Till(Keeper):
    """Sells, a Kafka transaction after the other, until the block ends: each sale once, whatever happens to the broker.

    :param sold: amounts in cents by customer, of committed sales.
    """

    def __init__(self, settings: Settings, rows: int = 100) -> None:
        super().__init__()
        self.settings, self.rows = settings, rows
        self.sold: dict[str, list[int]] = defaultdict(list)
        self.between = threading.Lock()

    @property
    def count(self) -> int:
        """Sales that are committed and count."""
        return sum(cents > 0 for amounts in list(self.sold.values()) for cents in list(amounts))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Between two transactions, with the markers of the last one written: a broker that dies right after its answer to a
        commit may forget them for ever, which is not what is tested here."""
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap(self.settings)})
        with self.between:
            assert wait_until(lambda: _ends(admin, committed=True) == _ends(admin, committed=False), LIMIT_SECONDS)
            yield

    def work(self) -> None:
        for number in itertools.count():
            if self.is_over.wait(0.1):
                return
            with self.between:
                self._commit(number)

    def _commit(self, number: int) -> None:
        now, first = datetime.now(UTC), number * self.rows
        ids = range(first, first + self.rows)
        # one of seven is worth nothing, and times are as mixed as a day's allow
        cents = [each * 31 % 997 if each % 7 else 0 for each in ids]
        rows = pa.table(
            {
                "transaction_id": [str(uuid.uuid5(uuid.NAMESPACE_OID, str(each))) for each in ids],
                "household_id": [each % CUSTOMERS for each in ids],
                "sales_value": pa.array([Decimal(each).scaleb(-2) for each in cents], pa.decimal128(12, 2)),
                "transaction_timestamp": pa.array([now - timedelta(seconds=each % 50) for each in ids], SALES.field(3).type),
            },
            schema=SALES,
        )  # fmt: skip
        receipt = Receipt(
            dataset="till", window=f"batch-{number}", ledger=Ledger(read=self.rows, written=self.rows), location=""
        )
        while True:
            try:
                with self._sink() as sink:
                    if sink.progress(receipt.load) is None:
                        sink.commit(rows, receipt, complete=True)
                break
            except TransientError:
                continue  # committed or not: the next look tells
        for each, amount in zip(ids, cents, strict=True):
            self.sold[str(each % CUSTOMERS)].append(amount)

    def _sink(self) -> KafkaTransactionSink:
        client = {"bootstrap.servers": kafka.bootstrap(self.settings)}
        encoder = JsonEncoder(SALES, ["transaction_id"])
        return KafkaTransactionSink(client=client, topic="transactions", dataset="till", encoder=encoder)


def _ends(admin: AdminClient, *, committed: bool) -> dict[TopicPartition, int]:
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    known = admin.list_topics(timeout=60).topics
    asked = {TopicPartition(name, each): OffsetSpec.latest() for name in _TOPICS for each in known[name].partitions}
    return {key: answer.result(60).offset for key, answer in admin.list_offsets(asked, isolation_level=level).items()}


class Job(Keeper):
    """The KPI job, supervised: the task, deferred and coming back, and begun again when it fails."""

    def __init__(self, settings: Settings) -> None:
        self._parameters = {
            "BOOTSTRAP": kafka.bootstrap(settings), "SOURCE_TOPIC": "transactions", "KPI_TOPIC": "customer_kpis_speed",
            "LATE_TOPIC": "transactions.late", "ACCEPTED_DAYS": "1", "STATE_DAYS": "4", "STATE_BACKEND": "rocksdb",
        }  # fmt: skip
        self.failures: list[str] = []
        super().__init__()

    def work(self) -> None:
        while not self.is_over.is_set():
            try:
                run_to_end(self._operator(watch_until=3_600.0), run_id="supervision")
            except TransientError as error:
                self.failures.append(str(error))

    def end(self) -> None:
        run_to_end(self._operator(action="stop"), run_id="stop")

    def _operator(self, **options: Any) -> FlinkSqlJobOperator:
        return FlinkSqlJobOperator(
            task_id="job", dag=DAG("speed_layer", schedule=None), job_name="customer_kpis",
            script=str(ROOT / "include" / "flink" / "customer_kpis.sql"), parameters=self._parameters,
            poll_interval_seconds=2, limit_seconds=LIMIT_SECONDS, **options,
        )  # fmt: skip


class DrainTask(Keeper):
    """The drain in a process of its own, begun again whenever that has ended."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        super().__init__()
        self._environment, self._log = environment, log
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def work(self) -> None:
        environment = {
            **os.environ, **self._environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
        }  # fmt: skip
        while not self.is_over.is_set():
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    [sys.executable, __file__], env=environment, cwd=ROOT, stdout=log, stderr=log
                )
                self.starts += 1
                self._process.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()

    end = kill


def expected(till: Till) -> dict[str, tuple[Decimal, int]]:
    """Total and count by customer."""
    return {
        customer: (Decimal(sum(amounts)).scaleb(-2), sum(cents > 0 for cents in amounts))
        for customer, amounts in till.sold.items()
    }


def served(session: Session) -> dict[str, tuple[Decimal, int]]:
    """Total and count by customer, of all days: midnight may pass."""
    found: dict[str, tuple[Decimal, int]] = {}
    query = f"SELECT customer_id, total_amount, transaction_count FROM {KEYSPACE}.customer_kpis_speed"
    for customer, total, count in session.execute(query, timeout=60):
        before = found.get(customer, (Decimal(0), 0))
        found[customer] = (before[0] + total, before[1] + count)
    return found


def seconds_until(condition: Callable[[], bool]) -> float:
    began = time.monotonic()
    assert wait_until(condition, LIMIT_SECONDS)
    return time.monotonic() - began


def main() -> None:
    from tallyclerk.transfers.kafka_to_cassandra import KafkaToCassandraOperator
    from tests.running import run_task_in_process

    end = datetime.now(UTC) + timedelta(hours=2)
    task = KafkaToCassandraOperator(
        task_id="drain", contract=str(ROOT / "include" / "contracts" / "customer_kpis_speed.odcs.yaml"),
        mode="continuous", until=end.isoformat(), poll_interval_seconds=1, unavailable_limit_seconds=60,
    )  # fmt: skip
    run_task_in_process(task)


if __name__ == "__main__":
    main()
