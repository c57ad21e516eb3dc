"""The shop's customers, change by change: from the database's log through Kafka to the lake, every minute.

The first run sends every customer as it is (`__op` = `r`); each later one what was committed since: new customers (`c`), changed ones
(`u`) and those who left (`d`, then a tombstone), each change once. The table `/data/raw/customer_changes` keeps all of them, with
the topic's partition and offset, which tell a customer's changes in order.

| | |
|---|---|
| make changes to see | `python -m include.shop change-customers --count 20` |
| run now | `airflow dags trigger retail_customers_cdc` |
| send every customer again | `airflow dags trigger retail_customers_cdc -c '{"begin_anew": true}'` |

The position in the log stands in the Kafka transactions themselves, so that a task that is cleared, retried or killed sends nothing
twice. While the DAG is paused the database keeps its log for the slot `tallyclerk_customers`: from 512 MB on each run warns, and
above 2 GB that it cannot get rid of it fails. Drop the slot when the DAG is not to come back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable

from tallyclerk.retries import DEFAULT_RETRY_POLICY
from tallyclerk.transfers.database_changes_to_kafka import DatabaseChangesToKafkaOperator
from tallyclerk.transfers.kafka_to_hdfs import KafkaToHdfsOperator

CONTRACTS = Path(__file__).resolve().parents[1] / "include" / "contracts"

with DAG(
    dag_id="retail_customers_cdc",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("* * * * *", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    # a run takes up where the one before it ended; two at once would only fence each other
    max_active_runs=1,
    tags=["retail", "stream"],
    default_args={
        "owner": "tallyclerk",
        "retries": 3,
        "retry_delay": timedelta(seconds=15),
        "retry_policy": DEFAULT_RETRY_POLICY,
    },
):
    # --8<-- [start:changes]
    changes = DatabaseChangesToKafkaOperator(
        task_id="changes_to_kafka",
        contract=str(CONTRACTS / "customers.odcs.yaml"),
        database_conn_id="shop_db",
        table="public.customers",
        mode="both",
        method="log",
        register="if_compatible",
        outlets=[Asset(name="customers_topic", uri="tallyclerk://kafka/customers")],
    )
    # --8<-- [end:changes]
    land = KafkaToHdfsOperator(
        task_id="changes_to_hdfs",
        contract=str(CONTRACTS / "customers.odcs.yaml"),
        bounded_by="stream",
        change_events=True,
        target="/data/raw/customer_changes",
        quarantine="/data/quarantine/customer_changes",
        outlets=[Asset(name="raw_customer_changes", uri="tallyclerk://lake/raw/customer_changes")],
    )

    changes >> land
