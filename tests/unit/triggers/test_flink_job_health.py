"""The looks of the sensor, at answers that a healthy cluster seldom gives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.module_loading import import_string
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tallyclerk.exceptions import FlinkJobFailedError, FlinkJobNotReadyError
from tallyclerk.sensors.flink_job import FlinkJobSensor
from tallyclerk.triggers.flink_job import FlinkJobTrigger
from tallyclerk.triggers.flink_job_health import FlinkJobHealthTrigger

NOW = 1_795_571_876_678
JOB = {"jid": "a1", "name": "kpis", "state": "RUNNING", "start-time": 1}


class Cluster:
    """Answers for one job; each look takes the next number of restarts and of unread messages, and keeps the last."""

    def __init__(self, server: HTTPServer) -> None:
        self.restarts, self.pending, self.jobs = [0], [0], [JOB]
        metrics = "/jobs/a1/vertices/v/subtasks/metrics"
        vertex = {"id": "v", "tasks": {"RUNNING": 2}}
        completed = {"id": 9, "external_path": "file:/c/chk-9", "latest_ack_timestamp": NOW - 1000}
        server.expect_request("/jobs/overview").respond_with_handler(lambda _: self._answer({"jobs": self.jobs}))
        for path, body in (
            ("/jobs/a1", {"state": "RUNNING", "now": NOW, "vertices": [vertex]}),
            ("/jobs/a1/checkpoints", {"latest": {"completed": completed}}),
        ):
            server.expect_request(path).respond_with_json(body)
        server.expect_request("/jobs/a1/metrics").respond_with_handler(
            lambda _: self._answer([{"id": "numRestarts", "value": str(self._next(self.restarts))}])
        )
        server.expect_request(metrics).respond_with_handler(self._unread)

    def _unread(self, request: Request) -> Response:
        name = "Source__sales.pendingRecords"
        return self._answer([{"id": name, "sum": float(self._next(self.pending))} if request.args else {"id": name}])

    @staticmethod
    def _next(values: list[int]) -> int:
        return values.pop(0) if len(values) > 1 else values[0]

    @staticmethod
    def _answer(body: Any) -> Response:
        return Response(json.dumps(body))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as server:
        facts = {"conn_type": "flink", "host": "127.0.0.1", "port": server.port}
        monkeypatch.setenv("AIRFLOW_CONN_FLINK_DEFAULT", json.dumps(facts))
        yield server


@pytest.fixture
def cluster(server: HTTPServer) -> Cluster:
    return Cluster(server)


def sense(**limits: Any) -> dict[str, Any]:
    stated = {"max_checkpoint_age_seconds": 60, "max_restarts": 1, "max_pending_records": 5, **limits}
    trigger = FlinkJobHealthTrigger(job_name="kpis", poll_interval_seconds=0.01, limit_seconds=2, **stated)

    async def first() -> dict[str, Any]:
        return (await anext(trigger.run())).payload

    return FlinkJobSensor(task_id="sensor", job_name="kpis").found({}, asyncio.run(first()))


def test_lag_is_believed_at_the_second_look_when_it_is_small_enough_in_both(cluster: Cluster) -> None:
    cluster.pending = [0, 900, 900, 4, 3]
    assert sense()["pending_records"] == 3


def test_it_fails_when_flink_restarts_the_job_more_often_than_allowed_while_it_looks(cluster: Cluster) -> None:
    cluster.restarts, cluster.pending = [7, 8, 9], [900]  # seven were before
    with pytest.raises(FlinkJobFailedError, match="2 times"):
        sense()


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"max_checkpoint_age_seconds": 0.5}, "newest checkpoint 1 s old"),
        ({"max_pending_records": 0}, "900 messages wait"),
    ],
)
def test_what_is_lacking_is_named_when_the_time_is_over(cluster: Cluster, limits: dict[str, Any], named: str) -> None:
    cluster.pending = [900]
    with pytest.raises(FlinkJobNotReadyError, match=named):
        sense(**limits)


def test_a_job_that_is_over_is_none_of_the_name(cluster: Cluster) -> None:
    cluster.jobs = [{**JOB, "state": "CANCELED"}]
    with pytest.raises(FlinkJobNotReadyError, match="no job of this name runs"):
        sense()


@pytest.mark.parametrize(("free", "told"), [(0, "no slot is free (2 in all)"), (1, "0 of 2 tasks run")])
def test_a_watch_says_that_no_slot_is_free_when_the_tasks_wait_for_one(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch, free: int, told: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CASSANDRA_DEFAULT", json.dumps({"conn_type": "cassandra", "host": "127.0.0.1"}))
    job = {"state": "RUNNING", "now": NOW, "vertices": [{"id": "v", "tasks": {"SCHEDULED": 2}}]}
    overview = {"slots-total": 2, "slots-available": free}
    for path, body in (("a2", job), ("a2/checkpoints", {"latest": {}}), ("a2/metrics", [])):
        server.expect_request(f"/jobs/{path}").respond_with_json(body)
    server.expect_request("/overview").respond_with_json(overview)
    trigger = FlinkJobTrigger(
        job="kpis", generation=1, job_id="a2", keyspace="k", poll_interval_seconds=0.01, limit_seconds=0.05
    )

    async def first() -> Any:
        return (await anext(trigger.run())).payload

    event = asyncio.run(first())
    assert event["status"] == "unready"
    assert told in event["message"]
    assert ("no slot" in event["message"]) is (free == 0)


@pytest.mark.parametrize(
    "trigger",
    [
        FlinkJobTrigger(job="kpis", generation=3, job_id="a1", keyspace="k", until="2026-01-01T00:00:00+00:00"),
        FlinkJobHealthTrigger(
            job_name="kpis", max_checkpoint_age_seconds=1, max_restarts=None, max_pending_records=2,
            poll_interval_seconds=3, limit_seconds=4,
        ),
    ],
    ids=["watch", "health"],
)  # fmt: skip
def test_a_trigger_survives_its_serialization(trigger: Any) -> None:
    path, facts = trigger.serialize()
    again = import_string(path)(**json.loads(json.dumps(facts)))
    assert again.serialize() == (path, facts)
