"""enriched/transactions → KPIs of each day by one key, exact to the cent; what the KPI jobs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn
from pyspark.sql.types import StructType

from spark_jobs.commit_log import CURSOR
from spark_jobs.days import partitions_sql
from spark_jobs.enrich_transactions import ENRICHED_PATH
from spark_jobs.failures import JobError, with_retries
from spark_jobs.job_arguments import JobOptions, day_job_options, day_job_parser
from spark_jobs.lake import Lake, open_session, require_columns, require_equal
from spark_jobs.receipts import Ledger, Receipt, fingerprint, hand_over, iso
from spark_jobs.sales_columns import ENRICHED, PARTITIONS


@dataclass(frozen=True, slots=True)
class DayKpis:
    """A table of KPIs.

    :param dataset: name of its loads.
    :param path: below the lake's root.
    :param key: its first column.
    :param key_of: the key of a sale; never null, or the sale's money would belong to nobody.
    :param columns: key, date and the three sums, in order.
    """

    dataset: str
    path: str
    key: str
    key_of: Callable[[], Column]
    columns: StructType

    def transform(self, sales: DataFrame) -> DataFrame:
        """One row for each key and day.

        The average is rounded half up once: Spark's quotient has 13 decimals, and a quotient of cents by a count n that is not
        exactly on a half cent is at least 0.005 / n away from it, so that the first rounding never moves it across while n < 10^10.

        :param sales: the key's column, ``transaction_date``, ``sales_value`` (decimal), one row a sales line.
        :returns: ``columns`` and the day's year, month, day. Overflow is an error, not a null (ANSI mode).
        """
        total, lines = fn.sum("sales_value").cast("decimal(18,2)"), fn.count("*")
        return (
            sales.groupBy(self.key_of().alias(self.key), fn.col("transaction_date").alias("date"))
            .agg(total.alias("total_amount"), lines.alias("lines"))
            .select(
                self.key,
                "date",
                "total_amount",
                fn.col("lines").cast("int").alias("transaction_count"),
                fn.round(fn.col("total_amount") / fn.col("lines").cast("decimal(10,0)"), 2)
                .cast("decimal(18,2)")
                .alias("avg_transaction_value"),
                fn.year("date").alias("year"),
                fn.month("date").alias("month"),
                fn.dayofmonth("date").alias("day"),
            )
        )

    def compute(self, lake: Lake, options: JobOptions, event_dates: Collection[date] = ()) -> Receipt:
        """Compute and commit the window's days, the event dates given, and all that changed in enriched since the last commit.

        The ledger counts sales lines: ``written`` are those that the KPIs account for; ``details.rows`` are the KPIs.

        :raises LedgerError: lines or money are unaccounted for; nothing was committed.
        :raises ContentionError: other applications kept being faster.
        """
        load = f"{self.dataset}@{options.window.key}"
        return with_retries(lambda: self._attempt(lake, options, event_dates, load), what=load)

    def _attempt(self, lake: Lake, options: JobOptions, event_dates: Collection[date], load: str) -> Receipt:
        source, target = lake.table(ENRICHED_PATH), lake.table(self.path)
        if not source.exists():
            raise JobError(f"There is no table {source.uri}; run enrich_transactions.py first.")
        target.create(self.columns)
        written, sold = target.log(), source.log()  # the target first: see lake.py on fencing
        event_dates = {*event_dates, *options.window.days()} | sold.dates_changed_since(written.cursor())
        sales = source.at(sold.version).where(partitions_sql(event_dates))
        require_columns(source, sales.schema, ENRICHED)
        kpis = self.transform(sales).select(*self.columns.names, *PARTITIONS.names).persist()
        try:
            went_in = sales.agg(fn.count("*").alias("lines"), fn.sum("sales_value").alias("total")).collect()[0]
            came = kpis.agg(
                fn.count("*").alias("rows"),
                fn.sum("transaction_count").alias("lines"),
                fn.sum("total_amount").alias("total"),
                fn.countDistinct(self.key).alias("keys"),
            ).collect()[0]
            cents = {name: int((row["total"] or 0) * 100) for name, row in (("sales", went_in), ("kpis", came))}
            require_equal(load, "the KPIs hold the sales' money, in cents", **cents)
            ledger = Ledger(read=went_in["lines"], written=came["lines"] or 0).check(load)
            details = {
                "engine": "spark",
                "event_dates": iso(event_dates),
                "rows": came["rows"],
                "keys": came["keys"],
                "sales_value": str(came["total"] or "0.00"),
            }
            receipt = options.signed(
                Receipt(self.dataset, options.window.key, ledger, location="", details=details),
                sources=({"uri": source.uri, "version": sold.version, "records": went_in["lines"]},),
                cursor={CURSOR: sold.version},
                fingerprint=fingerprint(source.uri, sold.version, iso(event_dates)),
            )
            return target.replace_days(kpis, event_dates, receipt, fence=written.fence())
        finally:
            kpis.unpersist()


def run_alone(kpis: DayKpis, description: str | None) -> None:
    """The ``main`` of a job that computes only these KPIs."""
    parser: argparse.ArgumentParser = day_job_parser(description)
    parser.add_argument(
        "--event-date", type=date.fromisoformat, action="append", default=[], help="recompute this day too (repeatable)"
    )
    arguments = parser.parse_args()
    options = day_job_options(parser, arguments)
    spark = open_session(f"{kpis.dataset} {options.window.key}")
    hand_over([kpis.compute(Lake(spark, options.lake), options, arguments.event_date)])
    spark.stop()
