"""A day of retail sales, from files, an API and a database to the KPIs of customers and departments.

Sales come as CSV files in the landing folder, customers from the shop's database, the catalogue page by page from its API,
through Kafka. Spark cleans the sales, joins customers and products, and sums each customer's and each department's day.
Cassandra serves the result. A day is done when HDFS and Cassandra hold the same number of sales lines and the same amount,
to the cent. Then it is closed: from there on the view answers from this batch and no longer from the speed layer, whose
answers for the day are compared with it, customer by customer.

| | |
|---|---|
| run a day | `airflow dags trigger retail_daily -c '{"date": "2026-01-31"}'` |
| run many | `airflow dags backfill retail_daily -s 2026-01-25 -e 2026-01-31` |
| see the ledger | `airflow tallyclerk ledger` |
| see what was rejected | `airflow tallyclerk quarantine list` |
| ask the view | `airflow tallyclerk kpis --date 2026-01-31` |

Every task can be cleared, retried or run twice: the answer stays the same.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable

from tallyclerk.operators.check_totals import CheckTotalsOperator
from tallyclerk.operators.close_days import CloseDaysOperator
from tallyclerk.operators.reconcile import ReconcileOperator
from tallyclerk.operators.spark_job import SparkDayJobOperator
from tallyclerk.operators.touched_days import TouchedDaysOperator
from tallyclerk.retries import DEFAULT_RETRY_POLICY
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tallyclerk.transfers.database_to_hdfs import DatabaseToHdfsOperator
from tallyclerk.transfers.kafka_to_hdfs import KafkaToHdfsOperator
from tallyclerk.transfers.lake_to_cassandra import LakeToCassandraOperator
from tallyclerk.transfers.rest_to_kafka import RestToKafkaOperator

PROJECT = Path(__file__).resolve().parents[1]
CONTRACTS = PROJECT / "include" / "contracts"

with DAG(
    dag_id="retail_daily",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    # two days at once would share the two cores; the commits themselves need no such limit
    max_active_runs=2,
    tags=["retail", "batch"],
    default_args={
        "owner": "tallyclerk",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": DEFAULT_RETRY_POLICY,
    },
):
    sales = CsvToHdfsOperator(
        task_id="sales_to_hdfs",
        contract=str(CONTRACTS / "transactions.odcs.yaml"),
        target="/data/raw/transactions",
        row_filters=["sales_value > 0"],
        outlets=[Asset(name="raw_transactions", uri="tallyclerk://lake/raw/transactions")],
    )
    # --8<-- [start:customers]
    customers = DatabaseToHdfsOperator(
        task_id="customers_to_hdfs",
        contract=str(CONTRACTS / "customers.odcs.yaml"),
        database_conn_id="shop_db",
        table="public.customers",
        mode="full",
        target="/data/raw/customers",
        outlets=[Asset(name="raw_customers", uri="tallyclerk://lake/raw/customers")],
    )
    # --8<-- [end:customers]
    # --8<-- [start:catalogue]
    catalogue = RestToKafkaOperator(
        task_id="products_to_kafka",
        contract=str(CONTRACTS / "products.odcs.yaml"),
        http_conn_id="shop_api",
        endpoint="/products",
        register="if_compatible",
        pages_per_transaction=10,
        # a data set has one writer into Kafka at a time: a second one would end the first one's transaction
        max_active_tis_per_dag=1,
    )
    products = KafkaToHdfsOperator(
        task_id="products_to_hdfs",
        contract=str(CONTRACTS / "products.odcs.yaml"),
        target="/data/raw/products",
        outlets=[Asset(name="raw_products", uri="tallyclerk://lake/raw/products")],
    )
    # --8<-- [end:catalogue]
    batch = SparkDayJobOperator(
        task_id="clean_enrich_kpis",
        application=str(PROJECT / "spark_jobs" / "retail_batch.py"),
        name="retail_daily",
        verbose=False,
    )
    days = TouchedDaysOperator(task_id="touched_days", source="/data/enriched/customer_kpis")
    serve_sales = LakeToCassandraOperator(
        task_id="sales_to_cassandra",
        contract=str(CONTRACTS / "transactions.odcs.yaml"),
        source="/data/processed/transactions",
        windows=days.output,
        allow_empty=True,
    )
    serve_kpis = LakeToCassandraOperator(
        task_id="kpis_to_cassandra",
        contract=str(CONTRACTS / "customer_kpis.odcs.yaml"),
        source="/data/enriched/customer_kpis",
        windows=days.output,
        allow_empty=True,
        outlets=[Asset(name="customer_kpis", uri="tallyclerk://cassandra/pipeline/customer_kpis")],
    )
    serve_departments = LakeToCassandraOperator(
        task_id="departments_to_cassandra",
        contract=str(CONTRACTS / "department_kpis.odcs.yaml"),
        source="/data/enriched/department_kpis",
        windows=days.output,
        allow_empty=True,
        outlets=[Asset(name="department_kpis", uri="tallyclerk://cassandra/pipeline/department_kpis")],
    )
    check = CheckTotalsOperator(
        task_id="check_totals",
        days=days.output,
        kpis={
            "/data/enriched/customer_kpis": str(CONTRACTS / "customer_kpis.odcs.yaml"),
            "/data/enriched/department_kpis": str(CONTRACTS / "department_kpis.odcs.yaml"),
        },
    )

    close = CloseDaysOperator(
        task_id="close_days",
        days=days.output,
        contract=str(CONTRACTS / "customer_kpis.odcs.yaml"),
        requires=[str(CONTRACTS / "transactions.odcs.yaml"), str(CONTRACTS / "department_kpis.odcs.yaml")],
        outlets=[Asset(name="closed_days", uri="tallyclerk://cassandra/pipeline/closed_days")],
    )
    reconcile = ReconcileOperator(
        task_id="reconcile",
        days=days.output,
        contract=str(CONTRACTS / "customer_kpis.odcs.yaml"),
        details=str(CONTRACTS / "transactions.odcs.yaml"),
        # the batch layer answers whatever the stream has missed, and its day is done
        on_drift="warn",
        settle_seconds=120,
        outlets=[Asset(name="customer_kpis_drift", uri="tallyclerk://lake/reconciliation/customer_kpis")],
    )

    catalogue >> products
    [sales, customers, products] >> batch >> days >> [serve_sales, serve_kpis, serve_departments] >> check
    check >> close >> reconcile
