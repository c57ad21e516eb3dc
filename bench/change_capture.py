"""Changes of a table into Kafka: ours against Debezium (log) and against the usual loop (query).

    python -m bench.change_capture --rows 200000

**Log.** The same changes (of ten, five inserts, four updates and a deletion, in transactions of 100) are read by ours and by Debezium
on the running Connect, each through a slot that was there before them, into a topic each, as Avro, exactly once. Debezium is the
pipeline's own connector (`include/connect/customers-debezium.json`) without snapshot and heartbeat. Its connector is stopped while the
changes are made; what counts begins when it is told to go on and ends when a read_committed reader has all events. Its CPU is that of the
Connect worker's process, `/proc/<pid>/stat`, less what the worker used in as many seconds before, idle; ours is that of a fresh
process, its start included. The reader that counts is neither's.

**Query.** Every row of the table has changed. Ours reads them by ``xmin``; the loop is that of most tutorials: ``WHERE updated_at > …``
row by row, ``AvroSerializer`` and ``produce`` for each, ``flush`` at the end.

``server`` is the CPU of PostgreSQL meanwhile, whoever used it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench import debezium_peer
from bench.database_extract import server_cpu_seconds
from bench.measure import ROOT, measure

OURS_LOG, DEBEZIUM = "log: slot, peeked", "log: Debezium on Connect"
OURS_QUERY, LOOP = "query: xmin, Arrow", "query: loop on updated_at"
CONTRACT = ROOT / "include" / "contracts" / "customers.odcs.yaml"
_COLUMNS = "age, income, home_ownership, marital_status, household_size, household_comp, kids_count"
_VALUES = (
    "'35-44', (50 + i % 100) || '-' || (74 + i % 100) || 'K', 'Homeowner', 'Married', '2', '2 Adults Kids', i % 4 || ''"
)

_TABLE = f"""
CREATE TABLE {{table}} (household_id bigint PRIMARY KEY, {_COLUMNS.replace(",", " text,")} text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp());
ALTER TABLE {{table}} REPLICA IDENTITY FULL
"""
_CHANGE = f"""
DO $$ BEGIN FOR batch IN 0..{{batches}} - 1 LOOP
    INSERT INTO {{table}} SELECT i, {_VALUES} FROM generate_series(batch * 50, batch * 50 + 49) i;
    UPDATE {{table}} SET income = 'under ' || batch, updated_at = clock_timestamp() WHERE household_id BETWEEN batch * 50 AND batch * 50 + 39;
    DELETE FROM {{table}} WHERE household_id BETWEEN batch * 50 + 40 AND batch * 50 + 49;
    COMMIT;
END LOOP; END $$
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """Where everything is, and the name of all that one run makes."""

    name: str
    uri: str
    bootstrap: str
    registry: str
    connect: str

    @property
    def table(self) -> str:
        return f"{self.name}.customers"

    @property
    def query(self) -> str:
        """Topic and data set of the query: a data set has one method."""
        return f"{self.name}_query"


def run_log(uri: str, table: str, name: str, bootstrap: str, registry: str) -> dict[str, Any]:
    """All changes through our slot, committed with ledger and position."""
    from tallyclerk.sources.database_log import LogChanges

    return _run_ours(
        lambda contract: LogChanges(uri=uri, table=table, contract=contract, slot=name, publication=name, begin="nothing"),
        name, bootstrap, registry,
    )  # fmt: skip


def run_query(uri: str, table: str, name: str, bootstrap: str, registry: str) -> dict[str, Any]:
    """All rows by their transactions, committed with ledger and position."""
    from tallyclerk.sources.database_xmin import QueryChanges

    return _run_ours(lambda contract: QueryChanges(uri=uri, table=table, contract=contract), name, bootstrap, registry)


def _run_ours(source: Callable[[Any], Any], name: str, bootstrap: str, registry: str) -> dict[str, Any]:
    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.changes import change_key, change_schema
    from tallyclerk.core.window import Window
    from tallyclerk.sinks.kafka_encoding import AvroEncoder
    from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
    from tallyclerk.sinks.schema_registry import SchemaRegistry
    from tallyclerk.transfers.change_stream import ChangeLoad

    contract = replace(load_contract(CONTRACT), dataset=name)
    encoder = AvroEncoder(
        change_schema(contract),
        change_key(contract),
        registry=SchemaRegistry(registry),
        topic=name,
        register="if_compatible",
    )
    client = {"bootstrap.servers": bootstrap}
    with KafkaTransactionSink(
        client=client, topic=name, dataset=name, encoder=encoder, commits_topic=f"{name}.commits"
    ) as sink:
        now = datetime.now(UTC).isoformat()
        load = ChangeLoad(
            sink=sink, source=lambda _: source(contract), contract=contract, load_id="bench",
            window=Window.from_key(f"2026-01-01/{now}"),
        )  # fmt: skip
        return {"rows": load.run().ledger.written}


def run_loop(uri: str, table: str, name: str, bootstrap: str, registry: str) -> dict[str, Any]:
    """The usual way: a row, a serializer call, a message."""
    import psycopg
    from confluent_kafka import Producer
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext
    from psycopg.rows import dict_row

    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.avro_projection import avro_schema

    schema = json.dumps(avro_schema(load_contract(CONTRACT)))
    serialize = AvroSerializer(SchemaRegistryClient({"url": registry}), schema, conf={"auto.register.schemas": True})
    producer, sent = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20}), 0
    context = SerializationContext(f"{name}.loop", MessageField.VALUE)
    with psycopg.connect(uri, row_factory=dict_row) as connection, connection.cursor(name="changes") as cursor:
        cursor.itersize = 10_000
        cursor.execute(
            f"SELECT * FROM {table} WHERE updated_at > %s ORDER BY updated_at", [datetime(2020, 1, 1, tzinfo=UTC)]
        )
        for row in cursor:
            while True:
                try:
                    producer.produce(f"{name}.loop", key=str(row["household_id"]), value=serialize(row, context))
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
            sent += 1
    producer.flush()
    return {"rows": sent}


@contextmanager
def prepared(setting: Setting) -> Iterator[None]:
    """Schema, table, publication, topics; all of it goes at the end."""
    import httpx
    import psycopg
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": setting.bootstrap})
    names = [f"{name}{part}" for name in (setting.name, setting.query) for part in ("", ".rejected", ".commits")]
    names.append(f"{setting.name}.loop")
    compacted = {"cleanup.policy": "compact"}
    with psycopg.connect(setting.uri, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {setting.name}")
        connection.execute(_TABLE.format(table=setting.table))
        connection.execute(f"CREATE PUBLICATION {setting.name}_dbz FOR TABLE {setting.table}")
        for future in admin.create_topics(
            [NewTopic(name, 3, 1, config=compacted if name.endswith(".commits") else {}) for name in names]
        ).values():
            future.result(120)
        try:
            yield
        finally:
            connection.execute("SET client_min_messages = warning")
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
                [setting.name],
            )
            connection.execute(f"DROP PUBLICATION IF EXISTS {setting.name}, {setting.name}_dbz")
            connection.execute(f"DROP SCHEMA {setting.name} CASCADE")
            held = [name for name in admin.list_topics(timeout=60).topics if name.startswith(setting.name)]
            for future in admin.delete_topics(held).values() if held else ():
                future.result(120)
            for subject in httpx.get(f"{setting.registry}/subjects", trust_env=False).json():
                if subject.startswith(setting.name):
                    httpx.delete(f"{setting.registry}/subjects/{subject}", trust_env=False)


def run(setting: Setting, rows: int, *, server_pid: int, connect_pid: int) -> dict[str, Any]:
    """All ways, one after the other."""
    import psycopg

    batches, found = max(1, rows // 100), {}
    arguments = {
        "uri": setting.uri, "table": setting.table, "name": setting.name, "bootstrap": setting.bootstrap,
        "registry": setting.registry,
    }  # fmt: skip

    def change() -> None:
        with psycopg.connect(setting.uri, autocommit=True) as connection:
            connection.execute(_CHANGE.format(table=setting.table, batches=batches))

    def ours(function: str, **changed: str) -> dict[str, Any]:
        before = server_cpu_seconds(server_pid)
        cost = measure(f"bench.change_capture:{function}", **{**arguments, **changed})
        return {
            **cost.as_dict(), "rows": cost.result["rows"],
            "server_cpu_seconds": round(server_cpu_seconds(server_pid) - before, 2),
        }  # fmt: skip

    with prepared(setting):
        start = measure("bench.change_capture:run_log", **arguments)  # makes the slot
        before = server_cpu_seconds(server_pid)
        found[DEBEZIUM] = debezium_peer.run(setting, batches * 100, change, connect_pid)
        found[DEBEZIUM]["server_cpu_seconds"] = round(server_cpu_seconds(server_pid) - before, 2)
        found[OURS_LOG] = {**ours("run_log"), "start_cpu_seconds": start.cpu_seconds}
        assert found[OURS_LOG]["rows"] == found[DEBEZIUM]["rows"] == batches * 100
        with psycopg.connect(setting.uri, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {setting.table}")
            connection.execute(
                f"INSERT INTO {setting.table} SELECT i, {_VALUES}, now() FROM generate_series(1, {rows}) i"
            )
            connection.execute(f"VACUUM ANALYZE {setting.table}")
        found[LOOP] = ours("run_loop")
        found[OURS_QUERY] = ours("run_query", name=setting.query)
        assert found[OURS_QUERY]["rows"] == found[LOOP]["rows"] == rows
    return {"bench": "change_capture", "rows": rows, "ways": found}


def table_text(results: dict[str, Any]) -> str:
    """The measurements, and how many times less CPU each of ours takes than its peer."""
    ways = results["ways"]
    peers = {OURS_LOG: DEBEZIUM, OURS_QUERY: LOOP}
    lines = [
        f"{results['rows']:,} changes",
        f"{'':<28}{'CPU s':>8}{'server':>8}{'wall s':>8}{'MiB':>7}{'events/CPU s':>14}{'peer/it':>9}",
    ]
    for way, cost in ways.items():
        ratio = f"{ways[peers[way]]['cpu_seconds'] / cost['cpu_seconds']:.1f}x" if way in peers else ""
        lines.append(
            f"{way:<28}{cost['cpu_seconds']:>8.1f}{cost['server_cpu_seconds']:>8.1f}{cost['wall_seconds']:>8.1f}"
            f"{cost['peak_rss_mib']:>7.0f}{cost['rows'] / cost['cpu_seconds']:>14,.0f}{ratio:>9}"
        )
    return "\n".join(lines)


def main() -> None:
    import tempfile

    from psycopg.conninfo import make_conninfo

    from stack.services import SERVICES
    from stack.settings import LOOPBACK, load_settings
    from stack.supervisor import Supervisor

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    settings = load_settings()
    pids = {}
    for service in SERVICES:
        if service.name in ("postgres", "connect"):
            identity = Supervisor(settings).identity(service)
            if identity is None:
                parser.error(f"{service.name} does not run; `make up`")
            pids[service.name] = identity.pid
    setting = Setting(
        name=f"bench_{uuid4().hex[:8]}",
        uri=make_conninfo(
            host=LOOPBACK, port=settings.port("POSTGRES"), user="retail", password=settings.secret("RETAIL_DB_PASSWORD"),
            dbname="retail",
        ),
        bootstrap=f"{LOOPBACK}:{settings.port('KAFKA')}",
        registry=f"http://{LOOPBACK}:{settings.port('REGISTRY')}/apis/ccompat/v7",
        connect=f"http://{LOOPBACK}:{settings.port('CONNECT')}",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        # some machines keep no bytecode: compiling the imports anew would be most of what is measured
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = cache
        results = run(setting, options.rows, server_pid=pids["postgres"], connect_pid=pids["connect"])
    print(table_text(results))
    text = json.dumps(results, indent=1)
    if options.json:
        options.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
