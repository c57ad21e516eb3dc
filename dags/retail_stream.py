"""Today's sales as they happen: from the shop's API through Kafka, Flink and Cassandra to the view that also serves closed days.

One run is one UTC day, and ends when that day is over and served. It first sends what the day before still lacks (all of it, when the
stream did not run), then polls the API for today's sales. Flink sums them per customer and day, and per department and minute;
`kpis_are_current` says when it has caught up. The two drains keep Cassandra's `customer_kpis_speed` and `department_minutes` at
the newest values. `retail_daily` closes each day and compares the two layers.

| | |
|---|---|
| start | unpause it; `airflow dags trigger retail_stream` begins in mid-day |
| see today's KPIs | `airflow tallyclerk kpis --date $(date -u +%F)` |
| change a Flink script | edit `include/flink/*.sql`: the next run stops the job with a savepoint and resumes it from there |

Every task can be killed, cleared or retried at any time: the API's rows are in Kafka once, Flink goes on from its checkpoint, also when
its JobManager has forgotten the job, and a drain that reads a range again writes the same cells. A service that is away is waited for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, CronTriggerTimetable

from tallyclerk.operators.flink_sql_job import FlinkSqlJobOperator
from tallyclerk.retries import DEFAULT_RETRY_POLICY
from tallyclerk.sensors.flink_job import FlinkJobSensor
from tallyclerk.transfers.kafka_to_cassandra import KafkaToCassandraOperator
from tallyclerk.transfers.rest_to_kafka import RestToKafkaOperator

INCLUDE = Path(__file__).resolve().parents[1] / "include"
CONTRACTS = INCLUDE / "contracts"

SPEED_LAYER = {
    "BOOTSTRAP": "{{ conn.kafka_default.extra_dejson['bootstrap.servers'] }}",
    "SOURCE_TOPIC": "transactions",
    # sales of today and of yesterday count; state is kept three days longer than that, see the scripts
    "ACCEPTED_DAYS": 1,
    "STATE_DAYS": 4,
    "STATE_BACKEND": "rocksdb",
}
FLINK_JOBS = {
    "customer_kpis": {"KPI_TOPIC": "customer_kpis_speed", "LATE_TOPIC": "transactions.late"},
    "department_minutes": {
        "MINUTES_TOPIC": "department_minutes",
        "PRODUCTS_TOPIC": "products",
        "REGISTRY": "http://{{ conn.schema_registry_default.host }}:{{ conn.schema_registry_default.port }}"
        "{{ conn.schema_registry_default.extra_dejson['path'] }}",
    },
}

with DAG(
    dag_id="retail_stream",
    doc_md=__doc__,
    # at the day's begin: a run's window is the day in which it starts
    schedule=CronTriggerTimetable("@daily", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    # at midnight a day's last sales are still on their way while the next one's come
    max_active_runs=2,
    tags=["retail", "stream"],
    default_args={
        "owner": "tallyclerk",
        # a service may be away for hours; what no retry mends fails at once by the policy
        "retries": 500,
        "retry_delay": timedelta(seconds=15),
        "retry_policy": DEFAULT_RETRY_POLICY,
    },
):
    sales = {
        "contract": str(CONTRACTS / "transactions.odcs.yaml"),
        "endpoint": "/transactions",
        "value_format": "json",
        # a data set has one writer into Kafka at a time: a second one would end the first one's transaction
        "max_active_tis_per_dag": 1,
    }
    yesterday = RestToKafkaOperator(task_id="sales_of_yesterday", pages_per_transaction=10, **sales)
    today = RestToKafkaOperator(
        task_id="sales_to_kafka",
        mode="continuous",
        poll_interval_seconds=20,
        outlets=[Asset(name="transactions_topic", uri="tallyclerk://kafka/transactions")],
        **sales,
    )
    for job, topics in FLINK_JOBS.items():
        FlinkSqlJobOperator(
            task_id=f"{job}_job",
            job_name=job,
            script=str(INCLUDE / "flink" / f"{job}.sql"),
            parameters={**SPEED_LAYER, **topics},
            watch_until="day_end",
        )
    for dataset in ("customer_kpis_speed", "department_minutes"):
        KafkaToCassandraOperator(
            task_id=f"{dataset}_to_cassandra",
            contract=str(CONTRACTS / f"{dataset}.odcs.yaml"),
            mode="continuous",
            poll_interval_seconds=5,
            outlets=[Asset(name=dataset, uri=f"tallyclerk://cassandra/pipeline/{dataset}")],
        )

    current = FlinkJobSensor(task_id="kpis_are_current", job_name="customer_kpis", max_pending_records=100)

    yesterday >> [today, current]
