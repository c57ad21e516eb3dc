"""enriched/transactions → enriched/department_kpis: what each department sold on each day, exact to the cent.

Sales of products that the catalogue did not know on their day count for the department UNKNOWN.

spark-submit spark_jobs/compute_department_kpis.py --date 2026-01-31 [--event-date 2026-01-29 ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

from pyspark.sql import functions as fn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs.day_kpis import DayKpis, run_alone
from spark_jobs.failures import run_job
from spark_jobs.sales_columns import DEPARTMENT_KPIS

UNKNOWN = "UNKNOWN"
KPIS = DayKpis(
    dataset="department_kpis",
    path="enriched/department_kpis",
    key="department",
    key_of=lambda: fn.coalesce("department", fn.lit(UNKNOWN)),
    columns=DEPARTMENT_KPIS,
)

if __name__ == "__main__":
    run_job(lambda: run_alone(KPIS, __doc__))
