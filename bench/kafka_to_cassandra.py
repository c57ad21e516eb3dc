"""The newest values of a topic to Cassandra: the drain against a consumer that executes per message.

    python -m bench.kafka_to_cassandra --rows 100000 --keys 2500

The topic holds KPIs of the speed layer as Flink writes them, JSON under JSON keys; topic and keyspace are ours to make and to
drop. Each way runs in a process of its own and fills a table of its own. CPU is per message, of the reading, decoding and
writing alone (imports and connecting are in the process' totals). The loop does what most scripts do: poll, `json.loads`,
`session.execute` with a prepared statement. It runs on `--slow-rows` messages, since it waits for the commit log at each. Ours does
more: it checks every value, keeps an account and a cursor, and bears write timestamps, so that it may be repeated.

The drain writes each key once a poll, which is where much of the difference comes from: `every key once` is a topic without any
repeated key, for the comparison of write with write.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.cassandra_load import cluster_at, costs_of
from bench.measure import ROOT, Measurement, measure

PARTITIONS = 3
LOOP = "consumer, json.loads, execute per message"
OURS = "KafkaToCassandraOperator's drain"


def run_loop(bootstrap: str, port: int, topic: str, keyspace: str, contract: str, limit: int) -> dict[str, Any]:
    """`confluent_kafka` and `session.execute`, prepared."""
    from confluent_kafka import Consumer, TopicPartition

    _create(contract, port)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{uuid.uuid4().hex}",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    with cluster_at(port) as cluster:
        session = cluster.connect(keyspace)
        prepared = session.prepare(
            f"INSERT INTO {topic} (customer_id, date, total_amount, transaction_count, avg_transaction_value) "
            "VALUES (?, ?, ?, ?, ?) USING TTL 345600"
        )
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])

        def load() -> int:
            written = 0
            while written < limit:
                message = consumer.poll(60)
                row = json.loads(message.value(), parse_float=Decimal)
                session.execute(prepared, tuple(row.values()))
                written += 1
            return written

        try:
            return costs_of(port, load)
        finally:
            consumer.close()


def run_ours(bootstrap: str, port: int, contract: str) -> dict[str, Any]:
    """What the operator does between finding its connections and publishing its receipt."""
    from tallyclerk.contracts import load_contract
    from tallyclerk.transfers.kafka_to_cassandra import KafkaToCassandraOperator

    os.environ["AIRFLOW_CONN_KAFKA_DEFAULT"] = json.dumps(
        {"conn_type": "kafka", "extra": {"bootstrap.servers": bootstrap}}
    )
    os.environ["AIRFLOW_CONN_CASSANDRA_DEFAULT"] = json.dumps(
        {"conn_type": "cassandra", "host": "127.0.0.1", "port": port}
    )
    task = KafkaToCassandraOperator(task_id="drain", contract=contract)
    with task.cassandra, task._drain(load_contract(contract)) as drain:

        def load() -> int:
            drain.poll()
            return drain.receipt().ledger.read

        return {**costs_of(port, load), "written": drain.receipt().ledger.written}


def _create(contract: str, port: int) -> None:
    from tallyclerk.contracts import load_contract
    from tallyclerk.sinks.cassandra_client import Backoff
    from tallyclerk.sinks.cassandra_table import TargetTable
    from tallyclerk.sinks.cassandra_target import CassandraTarget

    with cluster_at(port) as cluster:
        CassandraTarget(
            cluster.connect(), TargetTable.from_contract(load_contract(contract)), backoff=Backoff()
        ).create()


@contextmanager
def filled_topic(bootstrap: str, name: str, rows: int, keys: int) -> Iterator[None]:
    """``rows`` messages over ``keys`` customers of one day, in turn, in transactions."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(name, PARTITIONS, 1)], operation_timeout=60)[name].result(120)
    try:
        producer = Producer(
            {"bootstrap.servers": bootstrap, "transactional.id": name, "queue.buffering.max.messages": 1_000_000}
        )
        producer.init_transactions(120)
        producer.begin_transaction()
        for number in range(rows):
            customer, cents = number % keys, 100 + number
            value = (
                f'{{"customer_id":"{customer}","date":"2026-03-10","total_amount":{cents / 100:.2f},'
                f'"transaction_count":{number // keys + 1},"avg_transaction_value":{cents / 200:.2f}}}'
            )
            producer.produce(name, value, f'{{"customer_id":"{customer}","date":"2026-03-10"}}')
            producer.poll(0)
        producer.commit_transaction(120)
        yield
    finally:
        admin.delete_topics([name])[name].result(120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="messages")
    parser.add_argument("--keys", type=int, default=2_500, help="the shop's customers, about")
    parser.add_argument("--slow-rows", type=int, default=5_000, help="messages for the loop")
    parser.add_argument("--bootstrap", default=f"127.0.0.1:{os.environ.get('TALLYCLERK_KAFKA_PORT', '9092')}")
    parser.add_argument("--port", type=int, default=int(os.environ.get("TALLYCLERK_CASSANDRA_PORT", "9042")))
    parser.add_argument("--json", type=Path, help="write the measurements here")
    options = parser.parse_args()
    run = uuid.uuid4().hex[:8]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that `finally` drops the keyspaces
    measured: dict[str, Measurement] = {}
    for what, keys in ((f"{options.keys:,} keys", options.keys), ("every key once", options.rows)):
        name = f"bench_drain_{run}_{keys}"
        # whoever has to clean up by hand drops this name and no other: runs of others look alike
        print(f"topic and keyspaces {name}*", file=sys.stderr, flush=True)
        with (
            tempfile.TemporaryDirectory() as folder,
            filled_topic(options.bootstrap, name, options.rows, min(keys, options.rows)),
            cluster_at(options.port) as cluster,
        ):
            session = cluster.connect()
            try:
                for way in (LOOP, OURS):
                    keyspace = f"{name}_{'loop' if way == LOOP else 'ours'}"
                    contract = _contract(folder, name, keyspace)
                    where = {"bootstrap": options.bootstrap, "port": options.port, "contract": contract}
                    if way == LOOP:
                        where |= {"topic": name, "keyspace": keyspace, "limit": min(options.slow_rows, options.rows)}
                    function = "run_loop" if way == LOOP else "run_ours"
                    measured[f"{what}: {way}"] = measure(f"bench.kafka_to_cassandra:{function}", **where)
                    print(f"{what}: {way}: {measured[f'{what}: {way}'].result}", file=sys.stderr, flush=True)
            finally:
                for ending in ("loop", "ours"):
                    session.execute(f"DROP KEYSPACE IF EXISTS {name}_{ending}", timeout=120)
    print(_report(measured))
    if options.json:
        facts = {name: measurement.as_dict() for name, measurement in measured.items()}
        options.json.write_text(json.dumps({"rows": options.rows, "ways": facts}, indent=2) + "\n")
    return 0


def _contract(folder: str, name: str, keyspace: str) -> str:
    """The speed layer's, of another topic and keyspace."""
    own = (ROOT / "include/contracts/customer_kpis_speed.odcs.yaml").read_text()
    path = Path(folder, f"{keyspace}.odcs.yaml")
    path.write_text(own.replace("customer_kpis_speed", name).replace("keyspace: pipeline", f"keyspace: {keyspace}"))
    return str(path)


def _report(measured: dict[str, Measurement]) -> str:
    lines = [
        "| way | messages | rows written | client µs/message | loop/it | server µs/message | messages/s | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, measurement in measured.items():
        cost = measurement.result
        client = cost["client_cpu_seconds"] / cost["rows"] * 1e6
        base = measured[f"{name.split(':')[0]}: {LOOP}"].result
        ratio = base["client_cpu_seconds"] / base["rows"] * 1e6 / client
        server = (
            f"{cost['server_cpu_seconds'] / cost['rows'] * 1e6:.0f}" if cost["server_cpu_seconds"] is not None else ""
        )
        lines.append(
            f"| {name} | {cost['rows']:,} | {cost.get('written', cost['rows']):,} | {client:.1f} | {ratio:.1f} | {server} "
            f"| {cost['rows'] / cost['wall_seconds']:,.0f} | {measurement.peak_rss_mib:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
