"""processed/transactions × raw/customers → enriched/transactions.

A sale meets the newest snapshot of the customers at or before its own day. A household that the snapshot does not know keeps its
sales, with ``customer_is_known = false`` and no demographics: revenue is never lost to master data.

    spark-submit spark_jobs/enrich_transactions.py --date 2026-01-31 [--event-date 2026-01-29 ...]
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs.clean_transactions import PROCESSED_PATH
from spark_jobs.commit_log import CURSOR
from spark_jobs.days import partition_date, partitions_sql
from spark_jobs.failures import JobError, run_job, with_retries
from spark_jobs.job_arguments import JobOptions, day_job_options, day_job_parser
from spark_jobs.lake import Lake, LakeTable, open_session, require_columns
from spark_jobs.receipts import Ledger, Receipt, fingerprint, hand_over, iso
from spark_jobs.sales_columns import CUSTOMERS, ENRICHED, PARTITIONS, PROCESSED

DATASET = "transactions_enriched"
CUSTOMERS_PATH = "raw/customers"
ENRICHED_PATH = "enriched/transactions"


def newest_snapshots(event_dates: Iterable[date], snapshot_dates: Iterable[date]) -> dict[date, date | None]:
    """For each event date the newest snapshot at or before it; None where the first snapshot is younger."""
    known = sorted(snapshot_dates)
    return {day: max((snapshot for snapshot in known if snapshot <= day), default=None) for day in event_dates}


def transform(sales: DataFrame, customers: DataFrame, snapshot_of: Mapping[date, date | None]) -> DataFrame:
    """Sales with the demographics of their household.

    :param sales: columns of :data:`PROCESSED` and year, month, day.
    :param customers: columns of :data:`CUSTOMERS` and ``customer_snapshot_date``; one row a household and snapshot.
    :param snapshot_of: the snapshot that each event date of ``sales`` meets.
    :returns: columns of :data:`ENRICHED` and year, month, day; exactly the rows of ``sales``.
    """
    pairs = [(day, snapshot) for day, snapshot in snapshot_of.items() if snapshot]
    chosen = fn.lit(None).cast("date")
    for day, snapshot in pairs:
        chosen = fn.when(fn.col("transaction_date") == fn.lit(day), fn.lit(snapshot)).otherwise(chosen)
    joined = sales.withColumn("customer_snapshot_date", chosen).join(
        customers.select(*CUSTOMERS.names, "customer_snapshot_date", fn.lit(True).alias("customer_is_known")),
        ["household_id", "customer_snapshot_date"],
        "left",
    )
    return joined.withColumn("customer_is_known", fn.coalesce("customer_is_known", fn.lit(False))).select(
        *ENRICHED.names, *PARTITIONS.names
    )


def enrich(lake: Lake, options: JobOptions, event_dates: Collection[date] = ()) -> Receipt:
    """Compute and commit the window's days, the event dates given, and all that changed in processed since the last commit.

    How far the table has taken processed in stands in its own commits (the receipt's cursor), so that no change is lost when
    an application dies between two jobs, and none depends on who runs next.

    :raises LedgerError: the join lost or doubled sales; nothing was committed.
    :raises ContentionError: other applications kept being faster.
    """
    return with_retries(lambda: _attempt(lake, options, event_dates), what=f"{DATASET}@{options.window.key}")


def _attempt(lake: Lake, options: JobOptions, event_dates: Collection[date]) -> Receipt:
    sales_table, customers_table = lake.table(PROCESSED_PATH), lake.table(CUSTOMERS_PATH)
    for table in (sales_table, customers_table):
        if not table.exists():
            raise JobError(f"There is no table {table.uri}; run the job that fills it first.")
    target, load = lake.table(ENRICHED_PATH), f"{DATASET}@{options.window.key}"
    target.create(ENRICHED)
    written, sold = target.log(), sales_table.log()  # the target first: see lake.py on fencing
    versions = {sales_table.uri: sold.version, customers_table.uri: customers_table.log().version}
    event_dates = {*event_dates, *options.window.days()} | sold.dates_changed_since(written.cursor())
    sales = sales_table.at(versions[sales_table.uri]).where(partitions_sql(event_dates))
    require_columns(sales_table, sales.schema, PROCESSED)

    snapshots, snapshot_of = _snapshots(customers_table, versions[customers_table.uri], event_dates)
    enriched = transform(sales, snapshots, snapshot_of).persist()
    try:
        read = sales.count()
        came = enriched.agg(
            fn.count("*").alias("written"),
            fn.count_if(~fn.col("customer_is_known")).alias("unknown"),
            fn.sum("sales_value").alias("total"),
        ).collect()[0]
        ledger = Ledger(read=read, written=came["written"]).check(load)
        details = {
            "engine": "spark",
            "event_dates": iso(event_dates),
            "rows": came["written"],
            "sales_value": str(came["total"] or "0.00"),
            "unknown_customer_rows": came["unknown"],
            "customer_snapshots": {
                day.isoformat(): snapshot.isoformat() if snapshot else None
                for day, snapshot in sorted(snapshot_of.items())
            },
        }
        receipt = options.signed(
            Receipt(DATASET, options.window.key, ledger, location="", details=details),
            sources=tuple({"uri": uri, "version": version} for uri, version in versions.items()),
            cursor={CURSOR: sold.version},
            fingerprint=fingerprint(versions, iso(event_dates)),
        )
        return target.replace_days(enriched, event_dates, receipt, fence=written.fence())
    finally:
        enriched.unpersist()


def _snapshots(
    table: LakeTable, version: int, event_dates: Collection[date]
) -> tuple[DataFrame, dict[date, date | None]]:
    """The customers of the snapshots that the event dates meet, and which date meets which."""
    customers = table.at(version)
    require_columns(table, customers.schema, CUSTOMERS)
    days = customers.select(partition_date().alias("day")).distinct().collect()
    snapshot_of = newest_snapshots(event_dates, [row["day"] for row in days])
    wanted = {snapshot for snapshot in snapshot_of.values() if snapshot}
    rows = customers.where(partitions_sql(wanted)).withColumn("customer_snapshot_date", partition_date())
    doubled = rows.groupBy("customer_snapshot_date", "household_id").count().where("count > 1").limit(5).collect()
    if doubled:
        raise JobError(
            f"{table.uri} holds households twice in one snapshot, for instance {doubled[0]['household_id']} in that of "
            f"{doubled[0]['customer_snapshot_date']}: their sales would be doubled. Load that snapshot again."
        )
    return rows, snapshot_of


def main() -> None:
    parser = day_job_parser(__doc__)
    parser.add_argument(
        "--event-date", type=date.fromisoformat, action="append", default=[], help="recompute this day too (repeatable)"
    )
    arguments = parser.parse_args()
    options = day_job_options(parser, arguments)
    spark = open_session(f"enrich_transactions {options.window.key}")
    lake = Lake(spark, options.lake)
    hand_over([enrich(lake, options, arguments.event_date)])
    spark.stop()


if __name__ == "__main__":
    run_job(main)
