"""Answers of Flink, as it gave them, and what they mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tallyclerk.exceptions import (
    FlinkRefusedError,
    FlinkSqlError,
    FlinkStateLostError,
    ServiceUnavailableError,
    SpecError,
    StateDoesNotFitError,
)
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.hooks.flink_status import JobStatus, job_status, root_cause

SQL_ERROR = """Internal server error.
<Exception on server side:
org.apache.flink.client.program.ProgramInvocationException: The main method caused an error: null
\tat org.apache.flink.Some.method(Some.java:1)
Caused by: java.lang.reflect.InvocationTargetException
Caused by: org.apache.flink.table.api.ValidationException: SQL validation failed. From line 35, column 25 to line 35, column 36: Column 'x' not found in any table
Caused by: org.apache.calcite.runtime.CalciteContextException: From line 35, column 25 to line 35, column 36: Column 'x' not found in any table
Caused by: org.apache.calcite.sql.validate.SqlValidatorException: Column 'x' not found in any table
\t... 54 more
End of exception on server side>"""
PROGRAM = "org.apache.flink.client.program.ProgramInvocationException: The main method caused an error: null\n"
MISFIT = (
    "Caused by: java.lang.IllegalStateException: Failed to rollback to checkpoint/savepoint file:/s. Cannot map "
    "checkpoint/savepoint state for operator 62ce to the new program"
)
MISSING = "Caused by: java.io.FileNotFoundException: Cannot find checkpoint or savepoint file/directory 'file:/s'"
DUPLICATE = (
    "Caused by: org.apache.flink.runtime.client.DuplicateJobSubmissionException: Job has already been submitted."
)
LATE = "Caused by: java.util.concurrent.TimeoutException: Invocation timed out"


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as server:
        yield server


@pytest.fixture
def hook(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> FlinkHook:
    return made(monkeypatch, host="127.0.0.1", port=server.port)


def made(monkeypatch: pytest.MonkeyPatch, **facts: object) -> FlinkHook:
    monkeypatch.setenv("AIRFLOW_CONN_FLINK_DEFAULT", json.dumps({"conn_type": "flink", **facts}))
    return FlinkHook()


@pytest.mark.parametrize(
    ("status", "told", "error", "named"),
    [
        (400, SQL_ERROR, FlinkSqlError, "From line 35, column 25 .* Column 'x' not found"),
        (500, SQL_ERROR, FlinkSqlError, "Column 'x' not found"),
        (400, PROGRAM + MISFIT, StateDoesNotFitError, "Cannot map .* operator 62ce"),
        (400, PROGRAM + MISSING, FlinkStateLostError, "file:/s cannot be read"),
        (400, PROGRAM + LATE, ServiceUnavailableError, "Invocation timed out"),
        (500, "Internal server error.", ServiceUnavailableError, "Flink at http://127"),
        (401, "no", SpecError, "login"),
    ],
    ids=["sql", "sql in a plan", "misfit", "missing", "late", "server", "login"],
)
def test_each_refusal_of_a_submission_is_the_error_that_says_what_recovers(
    server: HTTPServer, hook: FlinkHook, status: int, told: str, error: type[Exception], named: str
) -> None:
    server.expect_request("/jars/j/run").respond_with_json({"errors": ["Could not execute.", told]}, status=status)
    with pytest.raises(error, match=named):
        hook.run("j", "SELECT 1", job="kpis", job_id="a" * 32, start="file:/s")


def test_a_repeated_submission_is_the_same_job(server: HTTPServer, hook: FlinkHook) -> None:
    answers = iter([(200, {"jobid": "a" * 32}), (400, {"errors": [PROGRAM + DUPLICATE]})])
    sent: list[dict[str, Any]] = []

    def answer(request: Request) -> Response:
        sent.append(request.get_json())
        status, body = next(answers)
        return Response(json.dumps(body), status)

    server.expect_request("/jars/j/run", method="POST").respond_with_handler(answer)
    assert [hook.run("j", "SELECT 1", job="kpis", job_id="a" * 32) for _ in range(2)] == [True, False]
    assert sent[0] == sent[1]
    assert (sent[0]["jobId"], sent[0]["programArgsList"]) == ("a" * 32, ["--script", "SELECT 1"])


def test_a_jar_is_uploaded_once(server: HTTPServer, hook: FlinkHook, tmp_path: Path) -> None:
    jar, present = tmp_path / "gateway.jar", []

    def take(request: Request) -> Response:
        name = request.files["jarfile"].filename
        present.append({"id": f"1_{name}", "name": name})
        return Response(json.dumps({"filename": f"/flink-web-upload/1_{name}"}))

    server.expect_request("/jars", method="GET").respond_with_handler(
        lambda _: Response(json.dumps({"files": present}))
    )
    server.expect_request("/jars/upload", method="POST").respond_with_handler(take)
    jar.write_bytes(b"one")
    first = hook.uploaded_jar(jar)
    assert hook.uploaded_jar(jar) == first
    jar.write_bytes(b"another")
    assert hook.uploaded_jar(jar) != first
    assert len(present) == 2


def test_what_is_refused_without_a_program_is_the_callers_fault(server: HTTPServer, hook: FlinkHook) -> None:
    server.expect_request("/jobs/a/stop").respond_with_json({"errors": ["Request did not match"]}, status=400)
    with pytest.raises(FlinkRefusedError, match="Request did not match"):
        hook.stop("a", "b" * 32)


def test_no_answer_is_a_service_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1 "):
        made(monkeypatch, host="127.0.0.1", port=1).overview()


@pytest.mark.parametrize(("facts", "named"), [({}, "no host"), ({"host": "f", "extra": {"cafile": "/"}}, "cafile")])
def test_a_connection_that_does_not_fit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, facts: dict, named: str
) -> None:
    with pytest.raises(SpecError, match=named):
        _ = made(monkeypatch, **facts).url


def status(
    *, state: str = "RUNNING", running: int = 2, age_seconds: int | None = 5, discarded: bool = False
) -> JobStatus:
    now = 1_795_571_876_678
    vertices = [{"tasks": {"RUNNING": running, "CREATED": 2 - running}}]
    completed = age_seconds is not None and {
        "id": 9,
        "external_path": "file:/c/chk-9",
        "latest_ack_timestamp": now - age_seconds * 1000,
        "discarded": discarded,
    }
    found = job_status(
        {"state": state, "now": now, "vertices": vertices},
        {"latest": {"completed": completed or None, "savepoint": None}},
        [{"id": "numRestarts", "value": "3"}],
    )
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("looked", "is_healthy"),
    [
        (status(), True),
        (status(running=1), False),
        (status(running=0), False),  # no TaskManager: Flink says RUNNING all the same
        (status(age_seconds=61), False),
        (status(age_seconds=None), False),
        (status(discarded=True), False),
        (status(state="RESTARTING"), False),
    ],
)
def test_a_job_is_well_when_every_task_runs_and_its_work_is_safe(looked: JobStatus, is_healthy: bool) -> None:
    assert looked.is_healthy(60) is is_healthy
    assert looked.restarts == 3


def test_a_job_that_is_not_known_is_none() -> None:
    assert job_status(None, None, []) is None


def test_the_cause_is_the_last_one_with_the_line_where_one_knows_it() -> None:
    assert root_cause(SQL_ERROR) == "From line 35, column 25 to line 35, column 36: Column 'x' not found in any table"
    assert root_cause("java.lang.Error: alone\n\tat x") == "java.lang.Error: alone"
    assert root_cause("") == ""
