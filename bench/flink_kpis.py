"""The speed layer's KPIs: Flink SQL against Spark Structured Streaming and a bare Python consumer.

    python -m bench.flink_kpis --rows 2000000

One topic holds the shop's sales as the live extractor sends them, one of a hundred twice. Each way keeps each sale once and sums it by
customer and day; what it answers must be DuckDB's to the cent. Flink runs the pipeline's own script on one slot of the running
cluster, read to the topic's present end: state on disk, a checkpoint every ten seconds, late sales to a topic of their own. Spark reads the
topic with trigger availableNow, drops duplicates and sums into a topic, on two cores, its checkpoint on the local disk as Flink's: once with
its default state, in memory, once with RocksDB's, both in as many partitions as there are cores, and once as it comes, in 200. The
bare consumer has a dict and a set; when it dies it begins again.

Flink's CPU is that of the TaskManager while the job runs, less what it uses idle; ``with planning`` adds the JobManager's. Its events per
second count from RUNNING to FINISHED. Spark's and the consumer's are of the whole process, which starts for nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bench import live_sales
from bench.kafka_to_hdfs import ends_of, messages_of
from bench.live_sales import ACCEPTED_DAYS, LiveSales
from bench.measure import ROOT, measure
from bench.spark_peer import kafka_jars, submit

if TYPE_CHECKING:
    from stack.settings import Settings
    from tallyclerk.hooks.flink import FlinkHook

ROCKSDB, HASHMAP = "Flink SQL, RocksDB", "Flink SQL, hashmap"
SPARK = "Spark availableNow, dropDuplicates"
SPARK_ROCKSDB = "Spark availableNow, RocksDB"
SPARK_AS_IT_COMES = "Spark availableNow, as it comes"
BARE = "bare Python consumer, dict and set"
HASHMAP_ROWS_A_MIB = 1_000  # of the TaskManager's heap; with more, it is all collection
_IDLE_SECONDS = 10
_LIMIT_SECONDS = 1800


def run_bare(bootstrap: str, topic: str, ends: dict[str, int]) -> dict[str, Any]:
    """As short as it can be written, in whole cents."""
    seen: set[bytes] = set()
    sums: dict[tuple[int, str], list[int]] = {}
    events = 0
    for message in messages_of(bootstrap, topic, ends):
        events += 1
        if (identity := message.key()) in seen:
            continue
        seen.add(identity)
        sale = json.loads(message.value())
        if cents := int(sale["sales_value"].replace(".", "")):
            entry = sums.setdefault((sale["household_id"], sale["transaction_timestamp"][:10]), [0, 0])
            entry[0] += cents
            entry[1] += 1
    return {
        "rows": events,
        "answer": [
            [str(customer), date, f"{cents // 100}.{cents % 100:02}", count, _average(cents, count)]
            for (customer, date), (cents, count) in sums.items()
        ],
    }


def _average(cents: int, count: int) -> str:
    rounded = (2 * cents + count) // (2 * count)
    return f"{rounded // 100}.{rounded % 100:02}"


def run_spark(
    bootstrap: str, topic: str, kpi_topic: str, *, on_disk: bool = False, as_it_comes: bool = False
) -> dict[str, Any]:
    """One application. Two partitions of state, one a core.

    :param on_disk: state in RocksDB, of which a checkpoint keeps the changes, as Flink's does; else in memory, Spark's default.
    :param as_it_comes: Spark's default number of partitions of state, 200.
    """
    script = (
        "import sys\n"
        "from pyspark.sql import SparkSession\n"
        "from pyspark.sql.functions import col, count, expr, from_json, round, struct, sum, to_json\n"
        "bootstrap, topic, target, checkpoint = sys.argv[1:]\n"
        "spark = SparkSession.builder.config('spark.sql.session.timeZone', 'UTC').getOrCreate()\n"
        "schema = 'transaction_id string, household_id string, sales_value decimal(12,2), transaction_timestamp string'\n"
        "sales = (spark.readStream.format('kafka').option('kafka.bootstrap.servers', bootstrap)\n"
        "    .option('kafka.isolation.level', 'read_committed').option('subscribe', topic)\n"
        "    .option('startingOffsets', 'earliest').load()\n"
        "    .select(from_json(col('value').cast('string'), schema).alias('sale')).select('sale.*')\n"
        "    .where('sales_value > 0').dropDuplicates(['transaction_id']))\n"
        "kpis = (sales.groupBy(col('household_id').alias('customer_id'), expr('left(transaction_timestamp, 10)').alias('date'))\n"
        "    .agg(sum('sales_value').cast('decimal(18,2)').alias('total'), count('*').alias('transaction_count'))\n"
        "    .select('customer_id', 'date', col('total').cast('string').alias('total_amount'), 'transaction_count',\n"
        "        round(col('total') / col('transaction_count').cast('decimal(10,0)'), 2).cast('decimal(18,2)').cast('string')\n"
        "            .alias('avg_transaction_value')))\n"
        "(kpis.select(to_json(struct('customer_id', 'date')).alias('key'), to_json(struct('*')).alias('value'))\n"
        "    .writeStream.format('kafka').option('kafka.bootstrap.servers', bootstrap).option('topic', target)\n"
        "    .option('checkpointLocation', checkpoint).outputMode('update')\n"
        "    .trigger(availableNow=True).start().awaitTermination())\n"
        "spark.stop()\n"
    )
    settings = {
        **kafka_jars(),
        "spark.driver.memory": "2g",
        **({} if as_it_comes else {"spark.sql.shuffle.partitions": "2"}),
        # a sum behind a deduplication without a watermark is right in update mode, though Spark will not say so
        "spark.sql.streaming.statefulOperator.checkCorrectness.enabled": "false",
    }
    if on_disk:
        store = "spark.sql.streaming.stateStore"
        settings[f"{store}.providerClass"] = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
        settings[f"{store}.rocksdb.changelogCheckpointing.enabled"] = "true"
    with tempfile.TemporaryDirectory() as folder:
        submit(folder, script, bootstrap, topic, kpi_topic, f"file://{folder}/checkpoint", settings=settings)
    return {}


def run_flink(settings: Settings, topic: str, targets: tuple[str, str], *, backend: str) -> dict[str, Any]:
    """The pipeline's script, which here ends at the topic's present end."""
    from stack.processes import wait_until
    from stack.services.flink import JOBMANAGER, TASKMANAGER
    from stack.services.kafka import bootstrap
    from stack.supervisor import Supervisor
    from tallyclerk.hooks.flink import FlinkHook
    from tallyclerk.hooks.flink_status import FINISHED, OVER
    from tallyclerk.operators.flink_script import read_script

    hook, name, job_id = FlinkHook(), f"{topic}-{backend}", uuid4().hex
    refuse_company(hook)
    parameters = {
        "BOOTSTRAP": bootstrap(settings),
        "SOURCE_TOPIC": topic,
        "KPI_TOPIC": targets[0],
        "LATE_TOPIC": targets[1],
        "STATE_BACKEND": backend,
        "ACCEPTED_DAYS": ACCEPTED_DAYS,
        "STATE_DAYS": ACCEPTED_DAYS + 3,
    }
    text = read_script(ROOT / "include" / "flink" / "customer_kpis.sql", parameters, job=name).text
    start = "'scan.startup.mode' = 'earliest-offset'"
    assert text.count(start) == 1
    text = text.replace(start, f"{start}, 'scan.bounded.mode' = 'latest-offset'")
    (path,) = settings.jars("flink").glob("flink-sql-gateway-*.jar")
    jar = hook.uploaded_jar(path)

    found = [Supervisor(settings).identity(service) for service in (TASKMANAGER, JOBMANAGER)]
    worker, planner = (identity.process() for identity in found if identity)
    assert worker is not None
    assert planner is not None
    before = _cpu(worker), _cpu(planner)
    time.sleep(_IDLE_SECONDS)  # what they use idle
    idle = [(_cpu(process) - cpu) / _IDLE_SECONDS for process, cpu in zip((worker, planner), before, strict=True)]
    before, began = (_cpu(worker), _cpu(planner)), time.monotonic()
    hook.run(jar, text, job=name, job_id=job_id)
    if not wait_until(lambda: hook.state(job_id) in OVER, _LIMIT_SECONDS):
        hook.cancel(job_id)
        raise RuntimeError(f"the job did not end within {_LIMIT_SECONDS} s")
    after, wall = (_cpu(worker), _cpu(planner)), time.monotonic() - began
    if hook.state(job_id) != FINISHED:
        raise RuntimeError(f"the job failed: {hook.last_failure(job_id)[-2000:]}")
    spent = [then - now - rate * wall for now, then, rate in zip(before, after, idle, strict=True)]
    return {
        "cpu_seconds": round(spent[0], 2),
        "planning_cpu_seconds": round(spent[1], 2),
        "wall_seconds": round(_ran_seconds(hook.url, job_id), 2),
        "peak_rss_mib": round(worker.memory_info().rss / 2**20, 1),
    }


def refuse_company(hook: FlinkHook) -> None:
    """:raises RuntimeError: the cluster runs a job, whose CPU would be taken for ours."""
    from tallyclerk.hooks.flink_status import OVER

    if others := [job.name for job in hook.jobs() if job.state not in OVER]:
        raise RuntimeError(f"Flink's CPU would be that of other jobs too: stop {', '.join(others)} first")


def _ran_seconds(url: str, job_id: str) -> float:
    import httpx

    moments = httpx.get(f"{url}/jobs/{job_id}", trust_env=False, timeout=60).json()["timestamps"]
    return float(moments["FINISHED"] - moments["RUNNING"]) / 1000


def _cpu(process: Any) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def answer_in(bootstrap: str, topic: str) -> list[list[Any]]:
    """The newest value of each key."""
    newest = {message.key(): message.value() for message in messages_of(bootstrap, topic, ends_of(bootstrap, topic))}
    return [list(json.loads(value).values()) for value in newest.values()]


def check(way: str, answer: list[list[Any]], expected: dict[tuple[str, str], tuple[str, int, str]]) -> None:
    """:raises RuntimeError: it is not DuckDB's."""
    found = {(customer, date): (total, count, average) for customer, date, total, count, average in answer}
    wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
    if wrong:
        key = wrong[0]
        raise RuntimeError(f"{way}: {len(wrong)} sums differ, {key} is {found.get(key)}, not {expected.get(key)}")


def heap_mib(settings: Settings) -> int:
    """Of the TaskManager, as it was started."""
    text = settings.option("FLINK_HEAP").lower()
    return int(text[:-1]) * (1024 if text.endswith("g") else 1)


def run(settings: Settings, rows: int, *, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """All ways, one after the other; way → measurement. :param only: backends and peers by a part of their names."""
    from stack.services.kafka import bootstrap as address
    from tallyclerk.hooks.flink import FlinkHook

    refuse_company(FlinkHook())  # before a topic is filled for nothing
    bootstrap, topic, found = address(settings), f"bench-kpis-{uuid4().hex[:8]}", {}
    backends = {ROCKSDB: "rocksdb", HASHMAP: "hashmap"}
    ways = [
        ROCKSDB,
        SPARK_ROCKSDB,
        SPARK,
        SPARK_AS_IT_COMES,
        BARE,
        *([HASHMAP] if rows <= HASHMAP_ROWS_A_MIB * heap_mib(settings) else []),
    ]
    sales = LiveSales(rows, late=0)
    expected = sales.customer_days()
    with live_sales.topics(bootstrap, topic):
        events = live_sales.send(bootstrap, topic, sales)
        ends = ends_of(bootstrap, topic)
        for way in [way for way in ways if not only or any(part in way for part in only)]:
            targets = (f"{topic}-{uuid4().hex[:6]}", f"{topic}-{uuid4().hex[:6]}-late")
            with live_sales.topics(bootstrap, *targets):
                if way in backends:
                    cost = run_flink(settings, topic, targets, backend=backends[way])
                    answer = answer_in(bootstrap, targets[0])
                elif way in (SPARK, SPARK_ROCKSDB, SPARK_AS_IT_COMES):
                    cost = measure(
                        "bench.flink_kpis:run_spark",
                        bootstrap=bootstrap,
                        topic=topic,
                        kpi_topic=targets[0],
                        on_disk=way == SPARK_ROCKSDB,
                        as_it_comes=way == SPARK_AS_IT_COMES,
                    ).as_dict()
                    answer = answer_in(bootstrap, targets[0])
                else:
                    cost = measure("bench.flink_kpis:run_bare", bootstrap=bootstrap, topic=topic, ends=ends).as_dict()
                    answer = cost.pop("result")["answer"]
            check(way, answer, expected)
            found[way] = cost
    return {"bench": "flink_kpis", "rows": rows, "events": events, "keys": len(expected), "ways": found}


def table_text(results: dict[str, Any]) -> str:
    """The measurements, for people."""
    events, ways = results["events"], results["ways"]
    peers = [(SPARK, "Spark/it"), (SPARK_ROCKSDB, "RocksDB/it")]
    lines = [
        f"{events:,} events, {results['rows']:,} sales, {results['keys']:,} customers' days",
        f"{'':<38}{'CPU s':>8}{'planning':>10}{'us/event':>10}{'events/CPU-s':>14}"
        f"{''.join(f'{head:>12}' for _, head in peers)}{'events/s':>10}{'wall s':>8}{'MiB':>7}",
    ]
    for way, cost in ways.items():
        cpu, planning = cost["cpu_seconds"], cost.get("planning_cpu_seconds")
        ratios = [
            f"{ways[peer]['cpu_seconds'] / (cpu + (planning or 0)):.1f}" if peer in ways else "" for peer, _ in peers
        ]
        shown = f"{planning:.1f}" if planning is not None else ""
        lines.append(
            f"{way:<38}{cpu:>8.1f}{shown:>10}{cpu / events * 1e6:>10.1f}{events / cpu:>14,.0f}{''.join(f'{ratio:>12}' for ratio in ratios)}"
            f"{events / cost['wall_seconds']:>10,.0f}{cost['wall_seconds']:>8.1f}{cost['peak_rss_mib']:>7.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    from stack.settings import LOOPBACK, load_settings

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--only", action="append", default=[], help="ways whose name has this part; more than once")
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    options = parser.parse_args()
    settings = load_settings()
    flink = {"conn_type": "flink", "host": LOOPBACK, "port": settings.port("FLINK")}
    os.environ.setdefault("AIRFLOW_CONN_FLINK_DEFAULT", json.dumps(flink))
    results = run(settings, options.rows, only=tuple(options.only))
    print(table_text(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
