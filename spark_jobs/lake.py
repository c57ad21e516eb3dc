"""The lake's Delta tables: where they are, how they are made, read at one version, and replaced by whole days in one commit.

Fencing. A result computed from an old look at the sources must not replace a newer one. Each commit of these jobs carries a fence
number (Delta's ``txnVersion`` under one ``txnAppId`` per table), one higher than the newest one seen *before* the sources were
looked at. Delta skips a commit whose number is already taken, silently, and refuses one whose number is being taken
(``ConcurrentTransactionException``); both become :class:`ContentionError`, upon which the job looks and computes again. So
the number is a compare-and-swap over "look, compute, commit", and never a reason to skip a rerun: a rerun takes the next number.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Any
from uuid import uuid4

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as fn
from pyspark.sql.types import StructType

from spark_jobs.commit_log import Commit, CommitLog, Fence, commit_in
from spark_jobs.days import partitions_sql
from spark_jobs.failures import ContentionError, JobError, LedgerError, is_contention
from spark_jobs.receipts import Receipt
from spark_jobs.sales_columns import PARTITIONS

log = logging.getLogger(__name__)

# Features stay at what delta-rs reads and writes; the log keeps ten years because the receipts live in it.
PROPERTIES = {
    "delta.minReaderVersion": "1",
    "delta.minWriterVersion": "2",
    "delta.enableDeletionVectors": "false",
    "delta.logRetentionDuration": "interval 3650 days",
}
_HISTORY = 20


def open_session(name: str) -> SparkSession:
    """The session of a job: UTC, and errors instead of nulls where a value does not fit."""
    return (
        SparkSession.builder.appName(name)
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.ansi.enabled", "true")
        .config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
        .getOrCreate()
    )


@dataclass(frozen=True)
class Lake:
    """The folder that holds raw/, processed/ and enriched/."""

    spark: SparkSession
    root: str
    _tables: dict[str, LakeTable] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def uri(self) -> str:
        """The root as a full URI; a bare path is on the cluster's default file system."""
        if "://" in self.root or self.root.startswith("file:"):
            return self.root.rstrip("/")
        default = str(self.spark.conf.get("spark.hadoop.fs.defaultFS", "file:"))
        return default.rstrip("/") + self.root.rstrip("/")

    def table(self, path: str) -> LakeTable:
        return self._tables.setdefault(path, LakeTable(self.spark, f"{self.uri}/{path}"))


@dataclass(frozen=True)
class LakeTable:
    """One Delta table, partitioned by year, month and day."""

    spark: SparkSession
    uri: str
    _known: dict[int, Commit] = field(default_factory=dict, repr=False, compare=False)

    def exists(self) -> bool:
        """Whether a version was ever committed; the folder alone is there a moment before the first one."""
        return bool(self._names("_delta_log", "[0-9]*.json", "[0-9]*.checkpoint*.parquet"))

    def create(self, schema: StructType) -> None:
        """Make the empty table where there is none; of several applications at once one makes it and all others take it.

        An application that died while it created the table leaves a log without a version, which the next one fills.

        :param schema: the columns without the partition's.
        :raises JobError: the folder holds files of something that is no table.
        :raises ContentionError: another application is creating it and its version is not there yet.
        """
        if self.exists():
            return
        foreign = self._names("", "[!._]*")
        if foreign and not self.exists():  # asked again: the files may be the new table's own
            raise JobError(
                f"{self.uri} is no table but holds {', '.join(sorted(foreign)[:3])}, which a new table would hide. "
                "Move these files away, or name another folder."
            )
        columns = {column.name: column.dataType for column in (*schema, *PARTITIONS)}
        empty = self.spark.range(0).select(*[fn.lit(None).cast(kind).alias(name) for name, kind in columns.items()])
        try:
            # not CREATE TABLE: that takes the log folder of another application's creation for foreign files
            (
                empty.write.format("delta")
                .mode("ignore")
                .partitionBy(*PARTITIONS.names)
                .options(**PROPERTIES)
                .save(self.uri)
            )
        except (PySparkException, Py4JJavaError) as error:
            if not is_contention(error):
                raise
            log.info("%s: another application created it first", self.uri)
        if not self.exists():
            raise ContentionError(f"{self.uri} is being created by another application")

    def _names(self, folder: str, *patterns: str) -> list[str]:
        """Names in a folder of the table that match one of the patterns (Hadoop's globs); empty when there is no folder."""
        names: list[str] = []
        for pattern in patterns:
            files, path = self._files("/".join(part for part in (folder, pattern) if part))
            names += [status.getPath().getName() for status in files.globStatus(path) or ()]
        return names

    def _read(self, name: str) -> str:
        files, path = self._files(name)
        stream = files.open(path)
        try:
            return str(self._jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
        finally:
            stream.close()

    def _files(self, name: str) -> tuple[Any, Any]:
        """Hadoop's file system, and its path of a file of the table."""
        context: Any = self.spark.sparkContext
        path = self._jvm.org.apache.hadoop.fs.Path(f"{self.uri}/{name}")
        return path.getFileSystem(context._jsc.hadoopConfiguration()), path

    @property
    def _jvm(self) -> Any:
        return self.spark._jvm

    def log(self) -> CommitLog:
        """The table's newest commits, as they are now."""
        return CommitLog(self._history(_HISTORY), self._history)

    def _history(self, limit: int) -> list[Commit]:
        """The newest commits, from the log's own files: DESCRIBE HISTORY starts two Spark jobs, a dozen times a day's application.

        A version's file never changes once it is there, so that each is read once.
        """
        versions = sorted((int(name[:20]) for name in self._names("_delta_log", "[0-9]*.json")), reverse=True)
        for version in versions[:limit]:
            if version not in self._known:
                self._known[version] = commit_in(version, self._read(f"_delta_log/{version:020d}.json"))
        return [self._known[version] for version in versions[:limit]]

    def at(self, version: int) -> DataFrame:
        """The table as it was at one version, whatever is committed meanwhile."""
        return self.spark.read.format("delta").option("versionAsOf", version).load(self.uri)

    def day_uris(self, days: Collection[date]) -> tuple[str, ...]:
        return tuple(f"{self.uri}/year={day.year}/month={day.month}/day={day.day}" for day in sorted(days))

    def replace_days(self, rows: DataFrame, days: Collection[date], receipt: Receipt, *, fence: Fence) -> Receipt:
        """Replace the partitions of ``days`` by ``rows``, in one commit that carries the receipt.

        :param rows: all of ``days``' rows, with the columns year, month, day; possibly none.
        :param fence: the next number by the log as it was before the sources were looked at.
        :returns: the receipt with the commit's version.
        :raises ContentionError: another application committed since then; nothing was written.
        """
        receipt = replace(receipt, location=self.uri, paths=self.day_uris(days))
        attempt = uuid4().hex  # a load_id may come back with the caller's retry
        (
            rows.hint("rebalance", "year", "month", "day")  # one file a day, more where a day is large
            .write.format("delta")
            .mode("overwrite")
            .option("replaceWhere", partitions_sql(days))
            .option("mergeSchema", "true")  # a contract's new column joins a table that is older than it
            .option("userMetadata", receipt.as_metadata(fence.number, attempt))
            .option("txnAppId", fence.app_id)
            .option("txnVersion", fence.number)
            .save(self.uri)
        )
        commit = self.log().of_attempt(attempt)
        if commit is None:
            raise ContentionError(f"{receipt.load}: number {fence.number} of {fence.app_id} in {self.uri} is taken")
        stored = int(commit.metrics.get("numOutputRows", 0))
        if stored != receipt.details["rows"]:
            raise JobError(
                f"{receipt.load}: version {commit.version} of {self.uri} holds {stored:,} new rows where "
                f"{receipt.details['rows']:,} were computed. Run the job again and compare."
            )
        log.info("%s: version %s of %s, %s", receipt.load, commit.version, self.uri, receipt.ledger)
        return replace(receipt, version=commit.version)


def require_columns(table: LakeTable, found: StructType, expected: StructType) -> None:
    """Refuse a table in which a column is missing or of another type; further columns are not ours to judge.

    :raises JobError: with every difference.
    """
    types = {column.name: column.dataType.simpleString() for column in found}
    wrong = [
        f"{column.name} is {types.get(column.name, 'missing')}, not {column.dataType.simpleString()}"
        for column in expected
        if types.get(column.name) != column.dataType.simpleString()
    ]
    if wrong:
        raise JobError(
            f"{table.uri} does not have the contract's columns: {'; '.join(wrong)}. Load it again, or migrate it."
        )


def require_equal(load: str, rule: str, **counts: int) -> None:
    """Refuse to commit when two independent counts of the same rows differ."""
    if len(set(counts.values())) > 1:
        raise LedgerError(load, counts, rule)
