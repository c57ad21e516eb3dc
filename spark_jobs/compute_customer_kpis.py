"""enriched/transactions → enriched/customer_kpis: what each household bought on each day, exact to the cent.

spark-submit spark_jobs/compute_customer_kpis.py --date 2026-01-31 [--event-date 2026-01-29 ...]
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs.commit_log import CURSOR
from spark_jobs.days import partitions_sql
from spark_jobs.enrich_transactions import ENRICHED_PATH
from spark_jobs.failures import JobError, run_job, with_retries
from spark_jobs.job_arguments import JobOptions, day_job_options, day_job_parser
from spark_jobs.lake import Lake, open_session, require_columns, require_equal
from spark_jobs.receipts import Ledger, Receipt, fingerprint, hand_over, iso
from spark_jobs.sales_columns import ENRICHED, KPIS, PARTITIONS

DATASET = "customer_kpis"
KPIS_PATH = "enriched/customer_kpis"


def transform(sales: DataFrame) -> DataFrame:
    """One row for each household and day.

    The average is rounded half up once: Spark's quotient has 13 decimals, and a quotient of cents by a count n that is not exactly
    on a half cent is at least 0.005 / n away from it, so that the first rounding never moves it across while n < 10^10.

    :param sales: ``household_id``, ``transaction_date``, ``sales_value`` (decimal), one row a sales line.
    :returns: columns of :data:`KPIS` and the day's year, month, day. Overflow is an error, not a null (ANSI mode).
    """
    total, lines = fn.sum("sales_value").cast("decimal(18,2)"), fn.count("*")
    return (
        sales.groupBy("household_id", "transaction_date")
        .agg(total.alias("total_amount"), lines.alias("lines"))
        .select(
            fn.col("household_id").cast("string").alias("customer_id"),
            fn.col("transaction_date").alias("date"),
            "total_amount",
            fn.col("lines").cast("int").alias("transaction_count"),
            fn.round(fn.col("total_amount") / fn.col("lines").cast("decimal(10,0)"), 2)
            .cast("decimal(18,2)")
            .alias("avg_transaction_value"),
            fn.year("transaction_date").alias("year"),
            fn.month("transaction_date").alias("month"),
            fn.dayofmonth("transaction_date").alias("day"),
        )
    )


def compute(lake: Lake, options: JobOptions, event_dates: Collection[date] = ()) -> Receipt:
    """Compute and commit the window's days, the event dates given, and all that changed in enriched since the last commit.

    The ledger counts sales lines: ``written`` are those that the KPIs account for; ``details.rows`` are the KPIs.

    :raises LedgerError: lines or money are unaccounted for; nothing was committed.
    :raises ContentionError: other applications kept being faster.
    """
    return with_retries(lambda: _attempt(lake, options, event_dates), what=f"{DATASET}@{options.window.key}")


def _attempt(lake: Lake, options: JobOptions, event_dates: Collection[date]) -> Receipt:
    source, target, load = lake.table(ENRICHED_PATH), lake.table(KPIS_PATH), f"{DATASET}@{options.window.key}"
    if not source.exists():
        raise JobError(f"There is no table {source.uri}; run enrich_transactions.py first.")
    target.create(KPIS)
    written, sold = target.log(), source.log()  # the target first: see lake.py on fencing
    version = sold.version
    event_dates = {*event_dates, *options.window.days()} | sold.dates_changed_since(written.cursor())
    sales = source.at(version).where(partitions_sql(event_dates))
    require_columns(source, sales.schema, ENRICHED)
    kpis = transform(sales).select(*KPIS.names, *PARTITIONS.names).persist()
    try:
        went_in = sales.agg(fn.count("*").alias("lines"), fn.sum("sales_value").alias("total")).collect()[0]
        came = kpis.agg(
            fn.count("*").alias("rows"),
            fn.sum("transaction_count").alias("lines"),
            fn.sum("total_amount").alias("total"),
            fn.countDistinct("customer_id").alias("customers"),
        ).collect()[0]
        cents = {name: int((row["total"] or 0) * 100) for name, row in (("sales", went_in), ("kpis", came))}
        require_equal(load, "the KPIs hold the sales' money, in cents", **cents)
        ledger = Ledger(read=went_in["lines"], written=came["lines"] or 0).check(load)
        details = {
            "engine": "spark",
            "event_dates": iso(event_dates),
            "rows": came["rows"],
            "customers": came["customers"],
            "sales_value": str(came["total"] or "0.00"),
        }
        receipt = options.signed(
            Receipt(DATASET, options.window.key, ledger, location="", details=details),
            sources=({"uri": source.uri, "version": version, "records": went_in["lines"]},),
            cursor={CURSOR: version},
            fingerprint=fingerprint(source.uri, version, iso(event_dates)),
        )
        return target.replace_days(kpis, event_dates, receipt, fence=written.fence())
    finally:
        kpis.unpersist()


def main() -> None:
    parser = day_job_parser(__doc__)
    parser.add_argument(
        "--event-date", type=date.fromisoformat, action="append", default=[], help="recompute this day too (repeatable)"
    )
    arguments = parser.parse_args()
    options = day_job_options(parser, arguments)
    spark = open_session(f"compute_customer_kpis {options.window.key}")
    lake = Lake(spark, options.lake)
    hand_over([compute(lake, options, arguments.event_date)])
    spark.stop()


if __name__ == "__main__":
    run_job(main)
