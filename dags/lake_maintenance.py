"""Once a week the lake is tidied up: few large files, none that nobody refers to, no rejected record past its time.

Days older than 30 days that have ten files or more, as those of streams have, are compacted; each day's rows are compared before and
after. Files that no version of the last seven days refers to are deleted, and so is what dead attempts have staged or spooled. Records
in quarantine are dropped after 90 days; corrections never are, as each later load of their window needs them. Loads may run meanwhile.

| | |
|---|---|
| run now | `airflow dags trigger lake_maintenance` |
| keep rejected records for a year | `airflow dags trigger lake_maintenance -c '{"keep_quarantine_days": 365}'` |
| see the receipts, which all stay | `airflow tallyclerk ledger` |

The task returns each table's files, bytes and rows before and after, and sets the gauges `tallyclerk.lake.<zone>.<table>.*`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param

from tallyclerk.operators.lake_maintenance import LakeMaintenanceOperator
from tallyclerk.retries import DEFAULT_RETRY_POLICY

with DAG(
    dag_id="lake_maintenance",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@weekly", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    # two at once would compact the same days
    max_active_runs=1,
    params={
        "compact_after_days": Param(30, type="integer", minimum=1, description="younger days stay as they are"),
        "keep_quarantine_days": Param(90, type="integer", minimum=1, description="older rejected records are dropped"),
    },
    tags=["retail", "batch"],
    default_args={
        "owner": "tallyclerk",
        "retries": 3,
        "retry_delay": timedelta(minutes=5),
        "retry_policy": DEFAULT_RETRY_POLICY,
    },
):
    LakeMaintenanceOperator(
        task_id="tidy_up",
        compact_after_days="{{ params.compact_after_days }}",
        keep_quarantine_days="{{ params.keep_quarantine_days }}",
    )
