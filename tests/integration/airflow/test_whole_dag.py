"""A DAG of load operators as a run of it goes, without a scheduler: from a file through the lake to Cassandra."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from airflow.sdk import DAG
from cassandra.cluster import Session
from hdfs_native import Client

from stack.settings import LOOPBACK, load_settings
from tallyclerk.operators.close_days import CloseDaysOperator
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tallyclerk.transfers.lake_to_cassandra import LakeToCassandraOperator
from tests.integration.cassandra.upsert_case import connect
from tests.running import RunDag

pytestmark = pytest.mark.integration
DAY = datetime(2026, 3, 10, tzinfo=UTC)
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: visits
name: visits
version: 1.0.0
status: active
servers:
  - {{server: landing, type: custom, format: csv, path: "visits_{{date}}.csv", delimiter: ","}}
schema:
  - name: visits
    customProperties:
      - property: cassandra
        value: {{keyspace: {keyspace}, table: visits, partitionKey: [id], columns: {{id: id, amount: amount}}}}
    properties:
      - {{name: id, logicalType: integer, physicalType: bigint, primaryKey: true, primaryKeyPosition: 1, required: true}}
      - {{name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true}}
"""


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DAG:
    """File → lake → Cassandra, with a folder and a keyspace of its own."""
    settings = load_settings()
    for name, facts in {
        "hdfs_default": {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": settings.port("HDFS")}},
        "fs_landing": {"conn_type": "fs", "extra": {"path": str(tmp_path)}},
        "cassandra_default": {"conn_type": "cassandra", "host": LOOPBACK, "port": settings.port("CASSANDRA")},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(facts))
    name = f"whole_dag_{uuid.uuid4().hex[:12]}"
    contract = tmp_path / "visits.odcs.yaml"
    contract.write_text(CONTRACT.format(keyspace=name))
    with DAG(name, schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as made:
        lake = f"/tmp/tests/whole-dag/{name}"
        load = CsvToHdfsOperator(
            task_id="load", contract=str(contract), target=f"{lake}/visits", quarantine=f"{lake}/quarantine"
        )
        serve = LakeToCassandraOperator(task_id="serve", contract=str(contract), source=f"{lake}/visits")
        load >> serve >> CloseDaysOperator(task_id="close", contract=str(contract), days=["2026-03-10"])
    return made


def served(session: Session, dag: DAG) -> dict[int, Decimal]:
    return {row.id: row.amount for row in session.execute(f"SELECT id, amount FROM {dag.dag_id}.visits")}


def test_cassandra_holds_the_files_rows_when_the_dag_has_run(dag: DAG, tmp_path: Path, run_dag: RunDag) -> None:
    settings = load_settings()
    delivered = tmp_path / "visits_2026-03-10.csv"
    with connect(settings.port("CASSANDRA")) as cluster:
        session = cluster.connect()
        try:
            delivered.write_text("id,amount\n1,1.50\n2,2.50\n3,3.50\n")
            first = run_dag(dag, logical_date=DAY)
            assert first.state == "success"
            assert served(session, dag) == {1: Decimal("1.50"), 2: Decimal("2.50"), 3: Decimal("3.50")}

            delivered.write_text("id,amount\n1,1.50\n2,20.00\n")
            run = run_dag(dag, conf={"date": "2026-03-10"})
            assert served(session, dag) == {1: Decimal("1.50"), 2: Decimal("20.00")}
            assert run.tasks["serve"].value[0]["details"]["removed_rows"] == 1
            generations = [each.tasks["close"].value["2026-03-10"]["generation"] for each in (first, run)]
            assert generations == [each.tasks["serve"].value[0]["version"] for each in (first, run)]
            assert generations[0] < generations[1]

            delivered.unlink()
            run = run_dag(dag, conf={"date": "2026-03-10"})
            assert {name: task.state for name, task in run.tasks.items()} == {
                "load": "failed", "serve": "upstream_failed", "close": "upstream_failed"
            }  # fmt: skip
            assert served(session, dag) == {1: Decimal("1.50"), 2: Decimal("20.00")}
        finally:
            session.execute(f"DROP KEYSPACE IF EXISTS {dag.dag_id}")
            Client(f"hdfs://{LOOPBACK}:{settings.port('HDFS')}").delete(
                f"/tmp/tests/whole-dag/{dag.dag_id}", recursive=True
            )
