"""Rows into Kafka messages and on to the broker: ours, column by column, against the usual serializers, record by record.

    python -m bench.kafka_encode --rows 1000000

Each way runs in a process of its own over the same sales (13 columns: a uuid, numbers, decimals, a timestamp). What is
measured is the CPU of that one step; making the rows, imports and connecting are not in it. The serializers get rows as
Python dicts, which somebody has to make of a batch first: `with dicts` counts that too. Their ways run on `--slow-rows` rows.
The producers send the same 150 byte messages in one transaction; only those with reports can say what has arrived, and
where.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.measure import ROOT, Measurement, measure

CONTRACT = ROOT / "include" / "contracts" / "transactions.odcs.yaml"
BATCH_ROWS = 16_384
KEY = "transaction_id"
AVRO_PEER, JSON_PEER = "Confluent AvroSerializer, per record", "json.dumps, per record"
OURS_AVRO, OURS_JSON, SINK = "AvroEncoder, columns", "JsonEncoder, columns", "KafkaTransactionSink, all of a load"
PRODUCE_PEER = "produce, with reports"


def sales(rows: int) -> Any:
    import numpy as np
    import pyarrow as pa

    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.projections import arrow_schema

    numbers = np.arange(rows)
    schema = arrow_schema(load_contract(CONTRACT))
    start = np.datetime64("2017-03-05", "us")

    def column(name: str, type_: Any) -> Any:
        if name == KEY:
            return pa.array(
                [str(uuid.UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128)) for number in range(rows)]
            )
        if pa.types.is_timestamp(type_):
            return pa.array(start + numbers % 86_400_000 * 1_000).cast(type_)
        if pa.types.is_decimal(type_):
            return pa.array([Decimal(int(cents)).scaleb(-2) for cents in numbers * 31 % 9_999], type_)
        if pa.types.is_string(type_):
            return pa.array((numbers * 7919 % 92_331).astype(str))
        if pa.types.is_date(type_):
            return pa.array(np.full(rows, 17_230, "i4")).cast(type_)
        return pa.array(numbers * 97 % 2_000 if name != "basket_id" else numbers + 31_198_459_904).cast(type_)

    return pa.table({field.name: column(field.name, field.type) for field in schema}, schema=schema)


@contextmanager
def counted(result: dict[str, Any]) -> Iterator[None]:
    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = cpu()
    yield
    result["cpu_seconds"] = cpu() - before


def avro() -> dict[str, Any]:
    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.avro_projection import avro_schema

    return avro_schema(load_contract(CONTRACT))


def encoder(kind: str, topic: str, registry: str) -> Any:
    from tallyclerk.sinks.kafka_encoding import AvroEncoder, JsonEncoder
    from tallyclerk.sinks.schema_registry import SchemaRegistry

    schema = sales(0).schema
    if kind == "json":
        return JsonEncoder(schema, [KEY])
    client = SchemaRegistry(registry)
    return AvroEncoder(schema, [KEY], registry=client, topic=topic, avro=avro(), register="if_compatible")


def run_ours(rows: int, kind: str, topic: str, registry: str) -> dict[str, Any]:
    import pyarrow.compute as pc

    table, ours = sales(rows), encoder(kind, topic, registry)
    ours.encode(table.slice(0, 10))
    result: dict[str, Any] = {"rows": rows, "bytes": 0}
    with counted(result):
        for start in range(0, rows, BATCH_ROWS):
            messages = ours.encode(table.slice(start, BATCH_ROWS))
            result["bytes"] += pc.sum(pc.binary_length(messages.values)).as_py()
            messages.keys.to_pylist(), messages.values.to_pylist()  # as the client wants them
    return result


def run_records(rows: int, kind: str, topic: str, registry: str, with_dicts: bool) -> dict[str, Any]:
    serialize = _serializer(kind, topic, registry)
    batches = sales(rows).to_batches(max_chunksize=BATCH_ROWS)
    result: dict[str, Any] = {"rows": rows, "bytes": 0}
    made = None if with_dicts else [batch.to_pylist() for batch in batches]
    with counted(result):
        for records in made or (batch.to_pylist() for batch in batches):
            for record in records:
                record[KEY].encode()
                result["bytes"] += len(serialize(record))
    return result


def _serializer(kind: str, topic: str, registry: str) -> Any:
    if kind == "json":
        return lambda record: json.dumps(record, default=str, separators=(",", ":")).encode()
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    client, text = SchemaRegistryClient({"url": registry}), json.dumps(avro())
    client.register_schema(f"{topic}-value", Schema(text, "AVRO"))
    serializer = AvroSerializer(client, text, conf={"auto.register.schemas": False})
    context = SerializationContext(topic, MessageField.VALUE)
    return lambda record: serializer(record, context)


def run_produce(rows: int, topic: str, bootstrap: str, batch: bool, reports: bool) -> dict[str, Any]:
    from confluent_kafka import Producer

    from tallyclerk.sinks.kafka_producer import DEFAULTS

    messages = [(b"%036d" % number, b"x" * 110) for number in range(rows)]
    producer = Producer({**DEFAULTS, "bootstrap.servers": bootstrap, "transactional.id": f"bench.{topic}"})
    producer.init_transactions(120)
    ends: dict[int, int] = {}

    def reported(error: Any, message: Any) -> None:
        assert error is None, error
        ends[message.partition()] = message.offset()

    on_delivery = {"on_delivery": reported} if reports else {}
    result: dict[str, Any] = {"rows": rows, "bytes": 146 * rows}
    with counted(result):
        producer.begin_transaction()
        for start in range(0, rows, BATCH_ROWS):
            part = messages[start : start + BATCH_ROWS]
            if batch:
                waiting = [{"key": key, "value": value} for key, value in part]
                while waiting:
                    if producer.produce_batch(topic, waiting, **on_delivery) < len(waiting):
                        producer.poll(0.1)
                    waiting = [each for each in waiting if each.pop("_error", None) is not None]
            else:
                for key, value in part:
                    while True:
                        try:
                            producer.produce(topic, value, key, **on_delivery)
                            break
                        except BufferError:
                            producer.poll(0.1)
            producer.poll(0)
        producer.flush()
        producer.commit_transaction(120)
    return result


def run_sink(rows: int, kind: str, topic: str, registry: str, bootstrap: str) -> dict[str, Any]:
    from tallyclerk.core.ledger import Ledger
    from tallyclerk.core.receipt import Receipt
    from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink

    table = sales(rows)
    receipt = Receipt(dataset=topic, window="2017-03-05", ledger=Ledger(read=rows, written=rows), location="")
    result: dict[str, Any] = {"rows": rows, "bytes": 0}
    options: dict[str, Any] = {"commits_topic": f"{topic}.commits", "encoder": encoder(kind, topic, registry)}
    with counted(result), KafkaTransactionSink(
        client={"bootstrap.servers": bootstrap}, topic=topic, dataset=topic, **options
    ) as sink:  # fmt: skip
        assert sink.commit(table, receipt, complete=True).details["acked"] == rows
    return result


def ways(rows: int, slow_rows: int, topic: str, registry: str, bootstrap: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → function and arguments."""
    encoding = {"topic": topic, "registry": registry}
    listed: dict[str, tuple[str, dict[str, Any]]] = {}
    for kind, peer, ours in (("avro", AVRO_PEER, OURS_AVRO), ("json", JSON_PEER, OURS_JSON)):
        records = {"rows": slow_rows, "kind": kind, **encoding}
        listed[peer] = ("run_records", {**records, "with_dicts": False})
        listed[f"{peer}, with dicts"] = ("run_records", {**records, "with_dicts": True})
        listed[ours] = ("run_ours", {"rows": rows, "kind": kind, **encoding})
    for name, batch, reports in (
        (PRODUCE_PEER, False, True),
        ("produce, without reports", False, False),
        ("produce_batch, with reports", True, True),
        ("produce_batch, without reports", True, False),
    ):
        sending = {"rows": rows, "topic": topic, "bootstrap": bootstrap, "batch": batch, "reports": reports}
        listed[name] = ("run_produce", sending)
    listed[SINK] = ("run_sink", {"rows": rows, "kind": "avro", **encoding, "bootstrap": bootstrap})
    return listed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--slow-rows", type=int, default=100_000, help="rows for the serializers")
    parser.add_argument("--json", type=Path, help="write the measurements here")
    options = parser.parse_args()
    bootstrap = f"127.0.0.1:{os.environ.get('TALLYCLERK_KAFKA_PORT', '9092')}"
    registry = f"http://127.0.0.1:{os.environ.get('TALLYCLERK_REGISTRY_PORT', '8181')}/apis/ccompat/v7"
    measured: dict[str, Measurement] = {}
    with own_topics(bootstrap, registry) as topic:
        slow = min(options.rows, options.slow_rows)
        for name, (function, arguments) in ways(options.rows, slow, topic, registry, bootstrap).items():
            measured[name] = measure(f"bench.kafka_encode:{function}", **arguments)
            print(f"{name}: {measured[name].result}", file=sys.stderr, flush=True)
    print(_report(measured))
    if options.json:
        facts = {name: measurement.as_dict() for name, measurement in measured.items()}
        options.json.write_text(json.dumps({"rows": options.rows, "ways": facts}, indent=2) + "\n")
    return 0


@contextmanager
def own_topics(bootstrap: str, registry: str) -> Iterator[str]:
    """A topic with its companions and its subject, deleted afterwards."""
    from confluent_kafka.admin import AdminClient, NewTopic
    from confluent_kafka.schema_registry import SchemaRegistryClient

    admin, topic = AdminClient({"bootstrap.servers": bootstrap}), f"bench-{uuid.uuid4().hex[:8]}"
    names = {topic: {}, f"{topic}.rejected": {}, f"{topic}.commits": {"cleanup.policy": "compact"}}
    new = [NewTopic(name, 3, 1, config=config) for name, config in names.items()]
    for future in admin.create_topics(new).values():
        future.result(120)
    try:
        yield topic
    finally:
        for future in admin.delete_topics(list(names)).values():
            future.result(120)
        client = SchemaRegistryClient({"url": registry})
        if f"{topic}-value" in client.get_subjects():
            client.delete_subject(f"{topic}-value")


def _report(measured: dict[str, Measurement]) -> str:
    lines = ["| way | rows | CPU µs/row | times less | peak MiB |", "|---|---:|---:|---:|---:|"]
    peers = {OURS_AVRO: AVRO_PEER, OURS_JSON: JSON_PEER}

    def cost(name: str) -> float:
        return measured[name].result["cpu_seconds"] / measured[name].result["rows"] * 1e6

    for name, measurement in measured.items():
        less = f"{cost(peers[name]) / cost(name):.1f}" if name in peers else ""
        lines.append(
            f"| {name} | {measurement.result['rows']:,} | {cost(name):.2f} | {less} | {measurement.peak_rss_mib:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
