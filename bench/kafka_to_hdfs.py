"""Kafka to the lake: ours against Spark Structured Streaming and a bare consumer (the limit).

    python -m bench.kafka_to_hdfs --rows 1000000

The topic holds the shop's real sales as Confluent-framed Avro, written in transactions, on the running broker; it is ours to
make and to drop. Each way runs in a process of its own. Rows on HDFS are counted again from what stands there. The bare
consumer decodes nothing and writes nothing. Spark reads the topic with trigger availableNow, decodes with from_avro, and
writes Parquet; it keeps no account, and a bad message ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.csv_load import CONTRACT, CYCLE, DAY, SALES_PER_CYCLE, stored
from bench.live_sales import produce
from bench.measure import measure
from bench.spark_peer import kafka_jars, submit

LIMIT = "bare consumer, dropped (limit)"
OURS = "KafkaMessages → LakeStream"
READ = "KafkaRange, dropped"
FASTAVRO = "consumer, fastavro per message, Parquet"
SPARK = "Spark availableNow, from_avro, Parquet"
FASTAVRO_LIMIT_ROWS = 2_000_000  # it holds each value as a Python object
PARTITIONS = 3
_TRANSACTION_ROWS = 200_000


def run_bare(bootstrap: str, topic: str, ends: dict[str, int]) -> dict[str, Any]:
    """Nothing but the client: every message, and its length."""
    rows, size = 0, 0
    for message in messages_of(bootstrap, topic, ends):
        size += len(message.value())
        rows += 1
    return {"rows": rows, "bytes": size}


def run_fastavro(bootstrap: str, topic: str, ends: dict[str, int], schema: dict[str, Any]) -> dict[str, Any]:
    """The way of most scripts, with the fastest decoder of one message at a time; into one local file."""
    import io

    import fastavro
    import pyarrow as pa
    import pyarrow.parquet as pq

    parsed = fastavro.parse_schema(schema)
    rows = []
    for message in messages_of(bootstrap, topic, ends):
        body = io.BytesIO(message.value())
        body.seek(5)
        row = fastavro.schemaless_reader(body, parsed, None)
        row["transaction_id"] = str(row["transaction_id"])
        rows.append(row)
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(pa.Table.from_pylist(rows), file.name, compression="zstd", compression_level=1)
    return {"rows": len(rows)}


def run_read(bootstrap: str, topic: str) -> dict[str, Any]:
    """Ours up to the decoder."""
    from tallyclerk.sources.kafka_range import KafkaRange

    with KafkaRange(client={"bootstrap.servers": bootstrap}, topic=topic) as reader:
        offsets, _ = reader.plan({})
        return {"rows": sum(len(batch.values) for batch in reader.read(offsets))}


def run_ours(bootstrap: str, registry: str, topic: str, uri: str) -> dict[str, Any]:
    """What ``KafkaToHdfsOperator`` does between finding its connections and publishing its receipt."""
    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.projections import arrow_schema
    from tallyclerk.core.receipt import Receipt, load_name
    from tallyclerk.sinks.lake_stream import LakeStream, range_name
    from tallyclerk.sinks.schema_registry import SchemaRegistry
    from tallyclerk.sources.kafka_decoding import FramedAvro
    from tallyclerk.sources.kafka_messages import KafkaMessages
    from tallyclerk.sources.kafka_range import KafkaRange
    from tallyclerk.sources.message_rules import RowRules

    contract, load_id = load_contract(CONTRACT), uuid4().hex
    table = LakeStream(uri, dataset=contract.dataset, schema=arrow_schema(contract), topic=topic)
    with (
        KafkaRange(client={"bootstrap.servers": bootstrap}, topic=topic) as reader,
        tempfile.TemporaryDirectory() as spool,
    ):
        head = table.head()
        offsets, _ = reader.plan(head.position)
        source = KafkaMessages(
            reader=reader,
            offsets=offsets,
            decoder=FramedAvro(
                arrow_schema(contract, derived=False), ["transaction_id"], SchemaRegistry(registry).schema
            ),
            rules=RowRules(contract),
            dataset=contract.dataset,
            load_id=load_id,
            by_day=True,
        )
        extract = source.extract_as(range_name(offsets), Path(spool))
        extract.ledger.check(load=load_name(contract.dataset, range_name(offsets)))
        receipt = Receipt(
            dataset=contract.dataset,
            window=range_name(offsets),
            ledger=extract.ledger,
            location=uri,
            load_id=load_id,
            fingerprint=extract.fingerprint,
            sources=extract.sources,
            cursor=extract.cursor,
        )
        return {"rows": table.append(head, extract.files, receipt).ledger.written}


def run_spark(bootstrap: str, topic: str, schema: dict[str, Any], uri: str) -> dict[str, Any]:
    """One application, as the documentation has it."""
    script = (
        "import sys\n"
        "from pyspark.sql import SparkSession\n"
        "from pyspark.sql.avro.functions import from_avro\n"
        "from pyspark.sql.functions import expr\n"
        "bootstrap, topic, schema, uri = sys.argv[1:]\n"
        "spark = SparkSession.builder.config('spark.sql.session.timeZone', 'UTC').getOrCreate()\n"
        "messages = (spark.readStream.format('kafka').option('kafka.bootstrap.servers', bootstrap)\n"
        "    .option('kafka.isolation.level', 'read_committed').option('subscribe', topic)\n"
        "    .option('startingOffsets', 'earliest').load())\n"
        "rows = messages.select(from_avro(expr('substring(value, 6)'), schema).alias('row')).select('row.*')\n"
        "(rows.writeStream.format('parquet').option('path', uri).option('checkpointLocation', uri + '-checkpoint')\n"
        "    .trigger(availableNow=True).start().awaitTermination())\n"
        "spark.stop()\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        submit(folder, script, bootstrap, topic, json.dumps(schema), uri, settings=kafka_jars())
    return {}


def messages_of(bootstrap: str, topic: str, ends: dict[str, int]) -> Iterator[Any]:
    """Every message, by the client's own batches; ``ends`` by partition tells when it is all."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": f"bench-{uuid4().hex}",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition(topic, int(partition), 0) for partition in ends])
    left = len(ends)
    while left:
        for message in consumer.consume(10_000, 0.1):
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                left -= 1
            else:
                raise RuntimeError(str(message.error()))
    consumer.close()


@contextmanager
def sales_topic(bootstrap: str, registry_url: str, rows: int) -> Iterator[tuple[str, dict[str, int], dict[str, Any]]]:
    """A topic of ``rows`` sales: its name, the ends of its partitions, and the writer's schema."""
    from confluent_kafka import Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    from tallyclerk.contracts import load_contract
    from tallyclerk.contracts.avro_projection import avro_schema
    from tallyclerk.contracts.projections import arrow_schema
    from tallyclerk.sinks.kafka_encoding import AvroEncoder
    from tallyclerk.sinks.schema_registry import SchemaRegistry

    contract, topic = load_contract(CONTRACT), f"bench-kafka-{uuid4().hex[:8]}"
    schema, avro = arrow_schema(contract, derived=False), avro_schema(contract, derived=False)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)], operation_timeout=120)[topic].result(120)
    registry = SchemaRegistry(registry_url)
    encoder = AvroEncoder(
        schema, ["transaction_id"], registry=registry, topic=topic, avro=avro, register="if_compatible"
    )
    producer = Producer(
        {"bootstrap.servers": bootstrap, "transactional.id": topic, "compression.type": "lz4", "linger.ms": 20}
    )
    try:
        producer.init_transactions(120)
        for part in _sales(rows):
            messages = encoder.encode(part.cast(schema))
            producer.begin_transaction()
            for key, value in zip(messages.keys.to_pylist(), messages.values.to_pylist(), strict=True):
                produce(producer, topic, key, value)
            assert producer.flush(300) == 0
            producer.commit_transaction(120)
        yield topic, ends_of(bootstrap, topic), avro
    finally:
        registry.close()
        admin.delete_topics([topic])[topic].result(120)


def _sales(rows: int) -> Iterator[Any]:
    """The shop's sales as Arrow tables of one transaction each, every id its own."""
    import pyarrow as pa

    from include.shop.source import SALES_COLUMNS, connect_to_sales

    columns = ", ".join(f"{name}::VARCHAR AS {name}" if name == "transaction_id" else name for name in SALES_COLUMNS)
    cycles = -(-rows // SALES_PER_CYCLE)
    with connect_to_sales(DAY + timedelta(days=number) for number in range(CYCLE * cycles)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        columns = columns.replace(
            "transaction_timestamp", "(transaction_timestamp AT TIME ZONE 'UTC') AS transaction_timestamp"
        )
        reader = connection.execute(f"SELECT {columns} FROM sales LIMIT {rows}").to_arrow_reader(_TRANSACTION_ROWS)
        for batch in reader:
            yield pa.Table.from_batches([batch])


def ends_of(bootstrap: str, topic: str) -> dict[str, int]:
    from tallyclerk.sources.kafka_range import KafkaRange

    with KafkaRange(client={"bootstrap.servers": bootstrap}, topic=topic) as reader:
        return {str(partition): end for partition, (_, end) in reader.bounds().items()}


def run(bootstrap: str, registry: str, address: str, rows: int) -> dict[str, Any]:
    """All ways, one after the other; way → measurement. :param address: the NameNode as ``hdfs://host:port``."""
    from hdfs_native import Client

    base, found = f"/tmp/bench-kafka-{uuid4().hex[:8]}", {}
    with sales_topic(bootstrap, registry, rows) as (topic, ends, avro):
        common = {"bootstrap": bootstrap, "topic": topic}
        ways: dict[str, tuple[str, dict[str, Any]]] = {
            LIMIT: ("run_bare", {"ends": ends}),
            READ: ("run_read", {}),
            OURS: ("run_ours", {"registry": registry, "uri": f"{address}{base}/ours"}),
            SPARK: ("run_spark", {"schema": avro, "uri": f"{address}{base}/spark"}),
        }
        if rows <= FASTAVRO_LIMIT_ROWS:
            ways[FASTAVRO] = ("run_fastavro", {"ends": ends, "schema": avro})
        try:
            for way, (function, arguments) in ways.items():
                cost = measure(f"bench.kafka_to_hdfs:{function}", **common, **arguments).as_dict()
                target = arguments.get("uri", "").removeprefix(address)
                found[way] = {**cost, **(stored(address, target) if target else {})}
                if found[way].get("stored_rows", cost["result"].get("rows")) != rows:
                    raise RuntimeError(f"{way}: {found[way]} are not {rows:,} rows")
        finally:
            Client(address).delete(base, recursive=True)
    return {"bench": "kafka_to_hdfs", "rows": rows, "ways": found}


def table_text(results: dict[str, Any]) -> str:
    """The measurements, with CPU as a ratio to the limit and to Spark's, for people."""
    ways = results["ways"]
    limit, spark = ways[LIMIT]["cpu_seconds"], ways[SPARK]["cpu_seconds"]
    lines = [
        f"{results['rows']:,} messages",
        f"{'':<42}{'CPU s':>8}{'x limit':>9}{'Spark/it':>10}{'wall s':>8}{'MiB':>7}{'stored MB':>11}",
    ]
    for way, cost in ways.items():
        size = f"{cost['stored_bytes'] / 1e6:.1f}" if "stored_bytes" in cost else ""
        cpu = cost["cpu_seconds"]
        lines.append(
            f"{way:<42}{cpu:>8.1f}{cpu / limit:>9.2f}{spark / cpu:>10.1f}{cost['wall_seconds']:>8.1f}"
            f"{cost['peak_rss_mib']:>7.0f}{size:>11}"
        )
    return "\n".join(lines)


def main() -> None:
    from stack.settings import LOOPBACK, load_settings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    os.environ.setdefault("HADOOP_USER_NAME", "hdfs")
    settings = load_settings()
    results = run(
        f"{LOOPBACK}:{settings.port('KAFKA')}",
        f"http://{LOOPBACK}:{settings.port('REGISTRY')}/apis/ccompat/v7",
        f"hdfs://{LOOPBACK}:{settings.port('HDFS')}",
        options.rows,
    )
    print(table_text(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
