"""LakeToCassandraOperator with real connections, and its hook's answers to wrong ones."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cassandra.cluster import Session

from tallyclerk.exceptions import SpecError, TransientError
from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
from tallyclerk.sinks.cassandra_client import Backoff
from tallyclerk.transfers.lake_to_cassandra import LakeToCassandraOperator
from tests.integration.cassandra.upsert_case import DAY, Case, connect, expected_sales, new_target, sales

pytestmark = pytest.mark.integration
PORT = int(os.environ.get("TALLYCLERK_CASSANDRA_PORT", "9042"))
HDFS_PORT = int(os.environ.get("TALLYCLERK_HDFS_PORT", "8020"))
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.0.0
status: active
schema:
  - name: sales
    logicalType: object
    physicalType: table
    customProperties:
      - property: cassandra
        value:
          keyspace: {keyspace}
          table: {table}
          partitionKey: [id]
          clusteringKey: []
          columns: {{id: id, household: household, amount: amount, quantity: quantity, note: note}}
          types: {{household: text}}
    properties:
      - {{name: id, logicalType: string, physicalType: uuid, logicalTypeOptions: {{format: uuid}}, required: true, primaryKey: true, primaryKeyPosition: 1}}
      - {{name: household, logicalType: integer, physicalType: bigint}}
      - {{name: amount, logicalType: number, physicalType: "decimal(12,2)"}}
      - {{name: quantity, logicalType: integer, physicalType: int}}
      - {{name: note, logicalType: string, physicalType: text}}
"""


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with connect(PORT) as cluster:
        yield cluster.connect()


@pytest.fixture
def case(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Case]:
    keyspace = f"operator_{uuid.uuid4().hex[:12]}"
    connection(monkeypatch, "cassandra_default", conn_type="cassandra", host="127.0.0.1", port=PORT)
    connection(monkeypatch, "hdfs_default", conn_type="hdfs", host="127.0.0.1", extra={"rpc_port": HDFS_PORT})
    yield Case(
        session, f"hdfs://127.0.0.1:{HDFS_PORT}/tmp/tests/cassandra-upsert/{uuid.uuid4().hex}", new_target(keyspace)
    )
    session.execute(f"DROP KEYSPACE IF EXISTS {keyspace}")


def connection(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def operator(case: Case, tmp_path: Path, **arguments: Any) -> LakeToCassandraOperator:
    contract = tmp_path / "sales.odcs.yaml"
    contract.write_text(CONTRACT.format(keyspace=case.target.keyspace, table=case.target.table))
    path = case.uri.split(str(HDFS_PORT), 1)[1]
    return LakeToCassandraOperator(task_id="load", source=path, contract=str(contract), **arguments)


def run(task: LakeToCassandraOperator, **conf: str) -> list[dict[str, Any]]:
    dag_run = SimpleNamespace(
        conf=conf, partition_key=None, data_interval_start=datetime(2017, 3, 5, tzinfo=UTC),
        data_interval_end=datetime(2017, 3, 6, tzinfo=UTC), run_after=datetime(2017, 3, 6, tzinfo=UTC),
    )  # fmt: skip
    return task.execute(cast(Any, {"dag_run": dag_run}))


def test_the_runs_window_is_loaded_when_no_windows_are_given(case: Case, tmp_path: Path) -> None:
    case.write_lake(sales(25))
    case.write_lake(sales(25, first=25), DAY + timedelta(days=1))
    (receipt,) = run(operator(case, tmp_path))
    assert (receipt["window"], receipt["ledger"]["written"], receipt["repeated"]) == ("2017-03-05", 25, False)
    assert case.rows() == expected_sales(sales(25))
    assert [receipt["repeated"] for receipt in run(operator(case, tmp_path))] == [True]


@pytest.mark.parametrize("windows", [["2017-03-06", "2017-03-05", "2017-03-06"], "2017-03-05, 2017-03-06"])
def test_each_window_is_loaded_once_when_several_are_given(case: Case, tmp_path: Path, windows: Any) -> None:
    case.write_lake(sales(25))
    case.write_lake(sales(25, first=25), DAY + timedelta(days=1))
    receipts = run(operator(case, tmp_path, windows=windows))
    assert [receipt["window"] for receipt in receipts] == ["2017-03-05", "2017-03-06"]
    assert case.rows() == expected_sales(sales(50))
    assert json.loads(json.dumps(receipts)) == receipts


def test_nothing_is_loaded_when_the_list_of_windows_is_empty(case: Case, tmp_path: Path) -> None:
    assert run(operator(case, tmp_path, windows=[])) == []


def test_the_refusal_names_the_window_when_it_is_no_date(case: Case, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'tomorrow' is not a date"):
        run(operator(case, tmp_path, windows=["tomorrow"]))


def test_the_error_is_transient_when_no_node_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    connection(monkeypatch, "cassandra_default", conn_type="cassandra", host="127.0.0.1", port=9)
    hook = CassandraClusterHook(backoff=Backoff(limit_seconds=1))
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:9 is not available"):
        _ = hook.session


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"host": ""}, "has no host"),
        ({"host": "127.0.0.1", "extra": {"consistancy": "ONE"}}, "unknown extras: consistancy"),
        ({"host": "127.0.0.1", "extra": {"consistency": "MOST"}}, "consistency 'MOST'"),
        ({"host": "127.0.0.1", "extra": {"ssl_options": {"ca": "x"}}}, "unknown ssl_options: ca"),
    ],
)
def test_the_connection_is_refused_when_it_is_wrong(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], sentence: str
) -> None:
    connection(monkeypatch, "cassandra_default", conn_type="cassandra", **fields)
    with pytest.raises(SpecError, match=sentence):
        _ = CassandraClusterHook().session


def test_the_session_is_closed_when_the_hook_is_left(case: Case) -> None:
    with CassandraClusterHook() as hook:
        session = hook.session
        assert session is hook.session
    assert session.is_shutdown
    hook.close()
