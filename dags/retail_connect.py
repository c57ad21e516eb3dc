"""Debezium on Kafka Connect, as declared state: every change of the shop's customers, as it happens.

`include/connect/customers-debezium.json` says what the connector is; this DAG makes it so and waits until it runs and reads.
A second run finds nothing to do. It is started by hand: the connector itself then runs by itself, until told otherwise.

| | |
|---|---|
| start, or apply a change | `airflow dags trigger retail_connect` |
| pause, stop | `airflow dags trigger retail_connect -c '{"state": "paused"}'` (or `stopped`) |
| begin with a new snapshot | the state `reset`, then `running` |
| remove it, with its slot and its offsets | the state `absent` |

Changes go to the topic `shop_cdc.public.customers`, in Avro, keyed by household; a deleted household has `__deleted` = `"true"`,
then a tombstone. A stopped connector's slot makes the database keep its log: remove it when it is not to come back.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG, Asset, Param

from tallyclerk.operators.connector import STATES, ConnectorOperator
from tallyclerk.retries import DEFAULT_RETRY_POLICY

CONNECTORS = Path(__file__).resolve().parents[1] / "include" / "connect"

with DAG(
    dag_id="retail_connect",
    doc_md=__doc__,
    schedule=None,
    start_date=datetime(2025, 1, 1, tzinfo=UTC),
    catchup=False,
    is_paused_upon_creation=True,
    # a connector has one declared state at a time
    max_active_runs=1,
    params={"state": Param("running", type="string", enum=list(STATES), description="what the connector is to be")},
    tags=["retail", "stream"],
    default_args={
        "owner": "tallyclerk",
        "retries": 3,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": DEFAULT_RETRY_POLICY,
    },
):
    ConnectorOperator(
        task_id="customers_connector",
        connector="shop-customers",
        config=str(CONNECTORS / "customers-debezium.json"),
        state="{{ params.state }}",
        # a slot that is left behind would pin the shop's log
        forget_position=True,
        database_conn_id="shop_db",
        outlets=[Asset(name="customer_changes", uri="tallyclerk://kafka/shop_cdc.public.customers")],
    )
