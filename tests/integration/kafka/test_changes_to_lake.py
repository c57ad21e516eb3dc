"""From a table's log through the topic to a table of changes on HDFS: the two operators of `retail_customers_cdc`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from deltalake import DeltaTable
from hdfs_native import Client

from stack.settings import LOOPBACK, load_settings
from tallyclerk.transfers.kafka_to_hdfs import KafkaToHdfsOperator
from tests.integration.kafka.change_case import ChangeCase, change_case
from tests.running import RunTask

pytestmark = pytest.mark.integration


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChangeCase]:
    with change_case(tmp_path) as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def lake(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    port = load_settings().port("HDFS")
    monkeypatch.setenv(
        "AIRFLOW_CONN_CHANGE_HDFS", json.dumps({"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": port}})
    )
    folder = f"/tmp/tests/changes-to-lake/{uuid4().hex}"
    yield folder
    Client(f"hdfs://{LOOPBACK}:{port}").delete(folder, recursive=True)


def test_the_lake_has_each_change_once_in_the_keys_order(case: ChangeCase, lake: str, run_task: RunTask) -> None:
    def run(minute: int) -> dict:
        conf = {"window_start": f"2026-03-01T10:0{minute}:00Z", "window_end": f"2026-03-01T10:0{minute + 1}:00Z"}
        run_task(case.operator(value_format="avro", register="if_compatible"), conf=conf)
        land = KafkaToHdfsOperator(
            task_id="land", topic=case.topic.name, contract=str(case.contract), kafka_conn_id="change_kafka",
            registry_conn_id="change_registry", hdfs_conn_id="change_hdfs", bounded_by="stream", change_events=True,
            target=f"{lake}/changes", quarantine=f"{lake}/quarantine", commits_topic=case.topic.commits,
        )  # fmt: skip
        return run_task(land, conf=conf).value

    case.db.execute(f"INSERT INTO {case.table} SELECT i, 'first' FROM generate_series(1, 30) i")
    run(0)
    case.db.execute(f"UPDATE {case.table} SET label = 'second' WHERE id <= 2")
    case.db.execute(f"DELETE FROM {case.table} WHERE id IN (2, 3)")
    case.db.execute(f"INSERT INTO {case.table} VALUES (31, NULL)")
    receipt = run(1)
    assert (receipt["ledger"]["written"], receipt["ledger"]["filtered"]) == (5, 2)  # the tombstones
    run(2)
    changes = DeltaTable(receipt["location"]).to_pyarrow_table().to_pylist()
    assert len(changes) == 35
    latest: dict[int, dict] = {}
    for change in sorted(changes, key=lambda row: (row["_partition"], row["_offset"])):
        assert change["__lsn"] >= latest.get(change["id"], change)["__lsn"]
        latest[change["id"]] = change
    assert {key: row["label"] for key, row in latest.items() if not row["__deleted"]} == case.rows()
    assert {key for key, row in latest.items() if row["__deleted"]} == {2, 3}
    assert all(row["__ts_ms"] for row in changes if row["__op"] != "r")
