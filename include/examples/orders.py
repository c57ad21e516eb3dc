"""Orders from a shop of your own: a CSV file a day, into the lake. An example; copy it to `dags/`, and its contract to `include/contracts/`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from airflow.sdk import DAG, CronDataIntervalTimetable

from tallyclerk.retries import DEFAULT_RETRY_POLICY
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator

with DAG(
    "orders",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    default_args={"owner": "you"},
):
    CsvToHdfsOperator(
        task_id="orders_to_hdfs",
        contract=str(Path(__file__).with_name("orders.odcs.yaml")),  # columns, types, rules and the files' dialect
        pattern="orders_{date}.csv*",  # below the folder of the connection fs_landing; .gz and .zst too
        target="/data/raw/orders",  # on the HDFS of the connection hdfs_default
        row_filters=["amount > 0"],
        max_rejected_ratio=0.3,  # above it the task fails and the day stays as it was
        retries=3,
        retry_policy=DEFAULT_RETRY_POLICY,  # a service that is away is tried again, bad data is not
    )
