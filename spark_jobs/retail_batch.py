"""The batch layer of a day, or of a range of days, in one application: clean → enrich → KPIs.

One spark-submit costs tens of CPU-seconds before it does anything, so that the four jobs share one
(docs/adr/0002-one-spark-application-a-day.md). Each job reads what the one before it committed and makes a commit of its own; an
application that dies in between is run again and finds the finished commits replaced by equal ones.

    spark-submit spark_jobs/retail_batch.py --date 2026-01-31
    spark-submit spark_jobs/retail_batch.py --from 2026-01-25 --to 2026-01-31
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs import compute_customer_kpis, compute_department_kpis
from spark_jobs.clean_transactions import ArrivalBounds, add_arguments, bounds_of, clean
from spark_jobs.enrich_transactions import enrich
from spark_jobs.failures import run_job
from spark_jobs.job_arguments import JobOptions, day_job_options, day_job_parser
from spark_jobs.lake import Lake, open_session
from spark_jobs.receipts import Receipt, hand_over


def run(lake: Lake, options: JobOptions, bounds: ArrivalBounds) -> list[Receipt]:
    """The receipts, in the jobs' order."""
    cleaned = clean(lake, options, bounds)
    enriched = enrich(lake, options, _event_dates(cleaned))
    tables = (compute_customer_kpis.KPIS, compute_department_kpis.KPIS)
    return [cleaned, enriched, *(table.compute(lake, options, _event_dates(enriched)) for table in tables)]


def _event_dates(receipt: Receipt) -> set[date]:
    return {date.fromisoformat(day) for day in receipt.details["event_dates"]}


def main() -> None:
    parser = day_job_parser(__doc__)
    add_arguments(parser)
    arguments = parser.parse_args()
    options = day_job_options(parser, arguments)
    spark = open_session(f"retail_batch {options.window.key}")
    hand_over(run(Lake(spark, options.lake), options, bounds_of(arguments)))
    spark.stop()


if __name__ == "__main__":
    run_job(main)
