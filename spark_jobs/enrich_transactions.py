"""processed/transactions × raw/customers × raw/products → enriched/transactions.

A sale meets the newest snapshot of customers and of products at or before its own day. What a snapshot does not know keeps
its sales, with ``customer_is_known`` or ``product_is_known`` false and empty columns: revenue is never lost to master data.

    spark-submit spark_jobs/enrich_transactions.py --date 2026-01-31 [--event-date 2026-01-29 ...]
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import date
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import functions as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs.clean_transactions import PROCESSED_PATH
from spark_jobs.commit_log import CURSOR
from spark_jobs.days import partitions_sql
from spark_jobs.failures import JobError, run_job, with_retries
from spark_jobs.job_arguments import JobOptions, day_job_options, day_job_parser
from spark_jobs.lake import Lake, open_session, require_columns
from spark_jobs.receipts import Ledger, Receipt, fingerprint, hand_over, iso
from spark_jobs.sales_columns import CUSTOMERS, ENRICHED, PARTITIONS, PROCESSED, PRODUCTS
from spark_jobs.snapshots import MasterData, Snapshots, read_snapshots

DATASET = "transactions_enriched"
ENRICHED_PATH = "enriched/transactions"
CUSTOMER_DATA = MasterData("customer", "raw/customers", "household_id", CUSTOMERS)
PRODUCT_DATA = MasterData("product", "raw/products", "product_id", PRODUCTS)


def transform(sales: DataFrame, *master_data: Snapshots) -> DataFrame:
    """Sales with the master data of their day.

    :param sales: columns of :data:`PROCESSED` and year, month, day.
    :param master_data: snapshots of customers and of products.
    :returns: columns of :data:`ENRICHED` and year, month, day; exactly the rows of ``sales``.
    """
    for snapshots in master_data:
        sales = snapshots.join(sales)
    return sales.select(*ENRICHED.names, *PARTITIONS.names)


def enrich(lake: Lake, options: JobOptions, event_dates: Collection[date] = ()) -> Receipt:
    """Compute and commit the window's days, the event dates given, and all that changed in processed since the last commit.

    How far the table has taken processed in stands in its own commits (the receipt's cursor), so that no change is lost when
    an application dies between two jobs, and none depends on who runs next.

    :raises LedgerError: the join lost or doubled sales; nothing was committed.
    :raises ContentionError: other applications kept being faster.
    """
    return with_retries(lambda: _attempt(lake, options, event_dates), what=f"{DATASET}@{options.window.key}")


def _attempt(lake: Lake, options: JobOptions, event_dates: Collection[date]) -> Receipt:
    sales_table = lake.table(PROCESSED_PATH)
    if not sales_table.exists():
        raise JobError(f"There is no table {sales_table.uri}; run the job that fills it first.")
    target, load = lake.table(ENRICHED_PATH), f"{DATASET}@{options.window.key}"
    target.create(ENRICHED)
    written, sold = target.log(), sales_table.log()  # the target first: see lake.py on fencing
    event_dates = {*event_dates, *options.window.days()} | sold.dates_changed_since(written.cursor())
    sales = sales_table.at(sold.version).where(partitions_sql(event_dates))
    require_columns(sales_table, sales.schema, PROCESSED)

    customers = read_snapshots(lake, CUSTOMER_DATA, event_dates)
    products = read_snapshots(lake, PRODUCT_DATA, event_dates)
    sources = ({"uri": sales_table.uri, "version": sold.version}, dict(customers.source), dict(products.source))
    enriched = transform(sales, customers, products).persist()
    try:
        read = sales.count()
        came = enriched.agg(
            fn.count("*").alias("written"),
            fn.count_if(~fn.col(CUSTOMER_DATA.known_column)).alias("unknown_customers"),
            fn.count_if(~fn.col(PRODUCT_DATA.known_column)).alias("unknown_products"),
            fn.sum("sales_value").alias("total"),
        ).collect()[0]
        ledger = Ledger(read=read, written=came["written"]).check(load)
        details = {
            "engine": "spark",
            "event_dates": iso(event_dates),
            "rows": came["written"],
            "sales_value": str(came["total"] or "0.00"),
            "unknown_customer_rows": came["unknown_customers"],
            "unknown_product_rows": came["unknown_products"],
            "customer_snapshots": customers.as_details(),
            "product_snapshots": products.as_details(),
        }
        receipt = options.signed(
            Receipt(DATASET, options.window.key, ledger, location="", details=details),
            sources=sources,
            cursor={CURSOR: sold.version},
            fingerprint=fingerprint(sources, iso(event_dates)),
        )
        return target.replace_days(enriched, event_dates, receipt, fence=written.fence())
    finally:
        enriched.unpersist()


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
