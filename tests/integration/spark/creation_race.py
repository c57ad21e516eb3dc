"""Several threads of one session create one table at the same moment, each with a view of its log of its own, as applications have."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

from pyspark.sql import SparkSession

from spark_jobs.failures import with_retries
from spark_jobs.lake import Lake, LakeTable
from spark_jobs.sales_columns import CUSTOMER_KPIS


def make_folder(lake: Lake, path: str) -> None:
    """An empty folder: what an application leaves that is in the middle of something, or died in it."""
    jvm: Any = lake.spark._jvm
    context: Any = lake.spark.sparkContext
    folder = jvm.org.apache.hadoop.fs.Path(f"{lake.uri}/{path}")
    folder.getFileSystem(context._jsc.hadoopConfiguration()).mkdirs(folder)


def race(lake: Lake, *, rounds: int, threads: int) -> list[list[int]]:
    """For each round the version that each thread saw right after it had created the table ``race/<round>``.

    In every other round the log's folder is there already, without a version.
    """
    with ThreadPoolExecutor(threads) as pool:
        seen = []
        for number in range(rounds):
            path = f"race/{number}"
            if number % 2:
                make_folder(lake, f"{path}/_delta_log")
            barrier = Barrier(threads)
            tables = [lake.table(path) for _ in range(threads)]
            seen.append(list(pool.map(lambda table, barrier=barrier: _create(table, barrier), tables)))
        return seen


def _create(table: LakeTable, barrier: Barrier) -> int:
    barrier.wait(timeout=300)
    _forget_logs(table.spark)

    def attempt() -> int:
        table.create(CUSTOMER_KPIS)
        return table.log().version

    return with_retries(attempt, what=table.uri)


def _forget_logs(spark: SparkSession) -> None:
    """Delta keeps one view of a log for all threads of a process."""
    jvm: Any = spark._jvm
    jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
