"""The example DAGs of the documentation run as they stand, but for where they write."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from deltalake import DeltaTable
from hdfs_native import Client

from stack.settings import LOOPBACK, ROOT, load_settings
from tests.running import RunDag

pytestmark = pytest.mark.integration
DAY = datetime(2026, 3, 10, tzinfo=UTC)
ORDERS = "order_id;customer;amount\n1;Ann;9.99\n2;Bob;0.00\n3;Cid;many\n4;Dora;12.50\n"


def test_orders_are_in_the_lake_when_the_own_csv_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_dag: RunDag
) -> None:
    address = f"hdfs://{LOOPBACK}:{(settings := load_settings()).port('HDFS')}"
    for name, facts in {
        "HDFS_DEFAULT": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "FS_LANDING": {"conn_type": "fs", "extra": {"path": str(tmp_path)}},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name}", json.dumps(facts))
    (tmp_path / "orders_2026-03-10.csv").write_text(ORDERS)
    bag = DagBag(str(ROOT / "include" / "examples"))
    assert bag.import_errors == {}
    dag, folder = bag.dags["orders"], f"/tmp/tests/examples/{uuid.uuid4().hex}"
    task = dag.get_task("orders_to_hdfs")
    task.target, task.quarantine, task.corrections = f"{folder}/orders", f"{folder}/quarantine", f"{folder}/corrections"
    try:
        run = run_dag(dag, logical_date=DAY)
        assert run.state == "success", run.tasks["orders_to_hdfs"].error
        assert run.tasks["orders_to_hdfs"].value["ledger"] == {
            "read": 4, "written": 2, "rejected": 1, "filtered": 1, "deduplicated": 0,
        }  # fmt: skip
        rows = DeltaTable(f"{address}{folder}/orders").to_pyarrow_table().to_pylist()
        assert {row["order_id"]: row["amount"] for row in rows} == {1: Decimal("9.99"), 4: Decimal("12.50")}
        assert len(DeltaTable(f"{address}{folder}/quarantine").to_pyarrow_table()) == 1
    finally:
        Client(address).delete(folder, recursive=True)
