"""enriched/transactions → enriched/customer_kpis: what each household bought on each day, exact to the cent.

spark-submit spark_jobs/compute_customer_kpis.py --date 2026-01-31 [--event-date 2026-01-29 ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import functions as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs.day_kpis import DayKpis, run_alone
from spark_jobs.failures import run_job
from spark_jobs.sales_columns import CUSTOMER_KPIS

KPIS = DayKpis(
    dataset="customer_kpis",
    path="enriched/customer_kpis",
    key="customer_id",
    key_of=lambda: fn.col("household_id").cast("string"),
    columns=CUSTOMER_KPIS,
)

if __name__ == "__main__":
    run_job(lambda: run_alone(KPIS, __doc__))
