"""raw/transactions → processed/transactions: each sale once, in the partition of the day it happened on.

The answer for an event date E is a function of the raw table alone: of all rows that say E and arrived between E - ``early_days`` and
E + ``late_days``, those that no newer version of the same ``transaction_id`` (arrived by E + ``late_days``) supersedes. A run
finds the event dates that its arrival windows touch, computes each of them anew in full, and replaces their partitions in one
commit. So the order of runs, reruns and backfills cannot matter, and a row that vanished from raw vanishes here.

    spark-submit spark_jobs/clean_transactions.py --date 2026-01-31 [--lake hdfs://host:8020/data]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs.days import DayRange, partition_date, partitions_between_sql
from spark_jobs.failures import JobError, run_job, with_retries
from spark_jobs.job_arguments import JobOptions, day_job_options, day_job_parser
from spark_jobs.lake import Lake, open_session, require_columns
from spark_jobs.receipts import Ledger, Receipt, fingerprint, hand_over, iso
from spark_jobs.sales_columns import PARTITIONS, PROCESSED, SALES

DATASET = "transactions_processed"
RAW = "raw/transactions"
PROCESSED_PATH = "processed/transactions"


@dataclass(frozen=True, slots=True)
class ArrivalBounds:
    """How many days before and after its event date a row may arrive; others stay in raw and count as filtered."""

    early_days: int = 1
    late_days: int = 30

    def holds(self) -> Column:
        return fn.datediff("arrival_date", "transaction_date").between(-self.early_days, self.late_days)


def with_arrival(raw: DataFrame) -> DataFrame:
    """The contract's columns, and the day of the window a row arrived in."""
    return raw.select(*SALES.names, partition_date().alias("arrival_date"))


def transform(rows: DataFrame, event_dates: Collection[date], bounds: ArrivalBounds) -> DataFrame:
    """All versions of the sales of ``event_dates``, each marked ``is_superseded`` or not.

    :param rows: columns of :data:`PROCESSED`: everything that arrived from the first event date - early_days to the last one
        + late_days, whatever event date it states (a correction may move a sale to another day).
    :returns: the same columns, ``is_superseded``, and the event date's year, month, day.
    """
    newest_first = [fn.desc("arrival_date"), fn.desc("transaction_timestamp")]
    newest_first += [fn.desc(name) for name in SALES.names if name not in ("transaction_id", "transaction_timestamp")]
    versions = Window.partitionBy("transaction_id").orderBy(*newest_first)
    next_arrival = fn.lag("arrival_date").over(versions)
    in_time = fn.datediff(next_arrival, "transaction_date") <= bounds.late_days
    return (
        rows.where(bounds.holds())
        .withColumn("is_superseded", fn.coalesce(in_time, fn.lit(False)))
        .where(fn.col("transaction_date").isin(sorted(set(event_dates))))
        .select(
            *PROCESSED.names,
            "is_superseded",
            fn.year("transaction_date").alias("year"),
            fn.month("transaction_date").alias("month"),
            fn.dayofmonth("transaction_date").alias("day"),
        )
    )


def touched_event_dates(
    arrived: DataFrame, around: DataFrame, processed: DataFrame, window: DayRange, bounds: ArrivalBounds
) -> set[date]:
    """Event dates whose answer may have changed with these arrival windows, and the windows' own days.

    :param arrived: raw rows of the windows, as they are now.
    :param around: raw rows of all windows that may hold other versions of them.
    :param processed: rows that came from these windows when they were last cleaned.
    """
    ids = arrived.select("transaction_id").unionByName(processed.select("transaction_id"))
    versions = around.where(bounds.holds()).join(ids, "transaction_id", "left_semi")
    dates = versions.select("transaction_date").unionByName(processed.select("transaction_date")).distinct().collect()
    return {row["transaction_date"] for row in dates} | set(window.days())


def clean(lake: Lake, options: JobOptions, bounds: ArrivalBounds) -> Receipt:
    """Compute and commit the event dates that the arrival windows touch.

    :raises LedgerError: raw rows are unaccounted for; nothing was committed.
    :raises ContentionError: other applications kept being faster.
    """
    return with_retries(lambda: _attempt(lake, options, bounds), what=f"{DATASET}@{options.window.key}")


def _attempt(lake: Lake, options: JobOptions, bounds: ArrivalBounds) -> Receipt:
    raw_table, target, window = lake.table(RAW), lake.table(PROCESSED_PATH), options.window
    if not raw_table.exists():
        raise JobError(f"There is no table {raw_table.uri}; load the day's files first.")
    target.create(PROCESSED)
    written, raw_version = target.log(), raw_table.log().version  # the target first: see lake.py on fencing
    raw_now = raw_table.at(raw_version)
    require_columns(raw_table, raw_now.schema, SALES)

    span = bounds.late_days + bounds.early_days
    around = with_arrival(raw_now.where(partitions_between_sql(window.widened(before=span, after=span))))
    arrived = with_arrival(raw_now.where(partitions_between_sql(window)))
    reach = window.widened(before=bounds.late_days, after=bounds.early_days)
    before = target.at(written.version).where(partitions_between_sql(reach)).where(_arrived_in(window))
    event_dates = touched_event_dates(arrived, around, before, window, bounds)
    # A retry names at least the dates of the attempt before it, whose receipt may never have reached the loads downstream.
    event_dates |= written.last_dates_of(DATASET, window.key)

    scope = DayRange(min(event_dates), max(event_dates)).widened(before=bounds.early_days, after=bounds.late_days)
    rows = with_arrival(raw_now.where(partitions_between_sql(scope)))
    versions = transform(rows, event_dates, bounds).persist()
    try:
        receipt = _account(rows, versions, event_dates, window, bounds, load=f"{DATASET}@{window.key}")
        sources = ({"uri": raw_table.uri, "version": raw_version, "records": receipt.ledger.read},)
        receipt = options.signed(
            receipt,
            sources=sources,
            fingerprint=fingerprint(raw_table.uri, raw_version, window.key, bounds.early_days, bounds.late_days),
        )
        kept = versions.where(~fn.col("is_superseded")).select(*PROCESSED.names, *PARTITIONS.names)
        return target.replace_days(kept, event_dates, receipt, fence=written.fence())
    finally:
        versions.unpersist()


def _arrived_in(window: DayRange) -> Column:
    return fn.col("arrival_date").between(fn.lit(window.first), fn.lit(window.last))


def _account(
    rows: DataFrame,
    versions: DataFrame,
    event_dates: set[date],
    window: DayRange,
    bounds: ArrivalBounds,
    *,
    load: str,
) -> Receipt:
    """Count what goes in and what comes out in two separate passes, and sign only when they agree."""
    ours, wanted = _arrived_in(window), fn.col("transaction_date").isin(sorted(event_dates)) & bounds.holds()
    incomplete = reduce(Column.__or__, (fn.col(name).isNull() for name in ("transaction_id", "transaction_date")))
    counted = rows.agg(
        fn.count_if(wanted | (ours & ~bounds.holds())).alias("read"),
        fn.count_if(ours & ~bounds.holds()).alias("filtered"),
        fn.count_if(ours).alias("arrived"),
        fn.count_if(ours & incomplete).alias("incomplete"),
    ).collect()[0]
    if counted["incomplete"]:
        raise JobError(
            f"{load}: {counted['incomplete']:,} raw rows have no transaction_id or no transaction_date, which their contract "
            "requires. Nothing was committed; load the window again."
        )
    superseded = fn.col("is_superseded")
    came = versions.agg(
        fn.count_if(~superseded).alias("written"),
        fn.count_if(superseded).alias("deduplicated"),
        fn.count_if(ours & ~superseded).alias("ours_written"),
        fn.count_if(ours & superseded).alias("ours_deduplicated"),
        fn.sum(fn.when(~superseded, fn.col("sales_value"))).alias("total"),
        fn.countDistinct(fn.when(~superseded, fn.col("transaction_id"))).alias("ids"),
    ).collect()[0]
    ledger = Ledger(counted["read"], came["written"], 0, counted["filtered"], came["deduplicated"]).check(load)
    own = Ledger(counted["arrived"], came["ours_written"], 0, counted["filtered"], came["ours_deduplicated"]).check(
        load
    )
    details = {
        "engine": "spark",
        "event_dates": iso(event_dates),
        "rows": came["written"],
        "arrived": own.as_dict(),
        "transaction_ids": came["ids"],
        "sales_value": str(came["total"] or "0.00"),
    }
    return Receipt(DATASET, window.key, ledger, location="", details=details)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--late-days", type=int, default=30, help="a row may arrive this many days after its event date"
    )
    parser.add_argument("--early-days", type=int, default=1, help="... and this many before it (clocks, time zones)")


def bounds_of(arguments: argparse.Namespace) -> ArrivalBounds:
    return ArrivalBounds(early_days=arguments.early_days, late_days=arguments.late_days)


def main() -> None:
    parser = day_job_parser(__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    options = day_job_options(parser, arguments)
    spark = open_session(f"clean_transactions {options.window.key}")
    hand_over([clean(Lake(spark, options.lake), options, bounds_of(arguments))])
    spark.stop()


if __name__ == "__main__":
    run_job(main)
