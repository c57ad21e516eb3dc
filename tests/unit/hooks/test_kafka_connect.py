"""Answers of Connect that a healthy cluster seldom gives, from an HTTP server that gives them."""

import json
from collections.abc import Iterator

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tallyclerk.exceptions import ConnectorRefusedError, ServiceUnavailableError, SpecError
from tallyclerk.hooks import kafka_connect
from tallyclerk.hooks.kafka_connect import KafkaConnectHook, Part, cause

TRACE = """org.apache.kafka.connect.errors.ConnectException: stopped
\tat io.debezium.Some.method(Some.java:1)
Caused by: io.debezium.DebeziumException: in between
\tat io.debezium.Some.other(Some.java:2)
Caused by: org.postgresql.util.PSQLException: the cause
\t... 5 more
"""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as server:
        yield server


@pytest.fixture
def hook(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> KafkaConnectHook:
    return made(monkeypatch, host="127.0.0.1", port=server.port)


def made(monkeypatch: pytest.MonkeyPatch, **facts: object) -> KafkaConnectHook:
    monkeypatch.setenv("AIRFLOW_CONN_CONNECT_DEFAULT", json.dumps({"conn_type": "http", **facts}))
    monkeypatch.setattr(kafka_connect, "_POLL_SECONDS", 0.05)
    return KafkaConnectHook(rebalance_limit_seconds=20)


def test_a_request_is_repeated_while_the_cluster_rebalances(server: HTTPServer, hook: KafkaConnectHook) -> None:
    answers = iter(
        [(409, "stale configuration"), (500, "Request cannot be completed because a rebalance is expected"), (202, "")]
    )

    def answer(request: Request) -> Response:
        status, message = next(answers)
        return Response(json.dumps({"error_code": status, "message": message}), status)

    server.expect_request("/connectors/c/pause", method="PUT").respond_with_handler(answer)
    hook.request("c", "pause")
    assert list(answers) == []


def test_a_rebalance_without_end_is_a_service_that_is_away(
    server: HTTPServer, hook: KafkaConnectHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.expect_request("/connectors/c/stop").respond_with_json({"message": "rebalance in process"}, status=409)
    monkeypatch.setattr(hook, "rebalance_limit_seconds", 0.2)
    with pytest.raises(ServiceUnavailableError, match="rebalance in process"):
        hook.request("c", "stop")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ConnectorRefusedError),
        (409, ConnectorRefusedError),
        (401, SpecError),
        (403, SpecError),
        (500, ServiceUnavailableError),
        (503, ServiceUnavailableError),
    ],
)
def test_each_status_is_the_error_that_says_what_recovers(
    server: HTTPServer, hook: KafkaConnectHook, status: int, error: type[Exception]
) -> None:
    server.expect_request("/connectors").respond_with_json({"message": "Connector c already exists"}, status=status)
    with pytest.raises(error):
        hook.create("c", {}, state="RUNNING")


def test_what_does_not_exist_is_none(server: HTTPServer, hook: KafkaConnectHook) -> None:
    server.expect_request("/connectors/c/status").respond_with_json({"message": "No status"}, status=404)
    server.expect_request("/connectors/c/offsets").respond_with_json({"message": "none"}, status=404)
    assert hook.status("c") is None
    assert hook.offsets("c") == []


def test_no_answer_is_a_service_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceUnavailableError, match=r"127\.0\.0\.1:1 "):
        made(monkeypatch, host="127.0.0.1", port=1).config("c")


def test_a_name_with_odd_signs_stays_one_part_of_the_path(server: HTTPServer, hook: KafkaConnectHook) -> None:
    asked = []

    def answer(request: Request) -> Response:
        asked.append(request.environ["REQUEST_URI"])
        return Response("{}")

    server.expect_request("/connectors/a/b c?/config").respond_with_handler(answer)
    hook.config("a/b c?")
    assert asked == ["/connectors/a%2Fb%20c%3F/config"]


def test_the_login_is_sent(server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.expect_request(
        "/connectors/c/config", headers={"Authorization": "Basic Y2xlcms6aHVzaA=="}
    ).respond_with_json({})
    assert made(monkeypatch, host="127.0.0.1", port=server.port, login="clerk", password="hush").config("c") == {}


@pytest.mark.parametrize(
    ("facts", "named"), [({}, "no host"), ({"host": "c", "extra": {"secret_folder": "/"}}, "secret_folder")]
)
def test_a_connection_that_does_not_fit_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, facts: dict, named: str
) -> None:
    with pytest.raises(SpecError, match=named):
        _ = made(monkeypatch, **facts).url


def test_the_cause_of_a_trace_is_its_last_one() -> None:
    assert cause(TRACE) == "org.postgresql.util.PSQLException: the cause"
    assert cause("java.lang.Error: alone\n\tat x") == "java.lang.Error: alone"
    assert cause("") == ""
    assert str(Part(0, "FAILED", TRACE)) == "task 0 FAILED: org.postgresql.util.PSQLException: the cause"
