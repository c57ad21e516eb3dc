"""What a driver's error means, and how long to wait."""

from __future__ import annotations

import pytest
from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    Unauthorized,
    Unavailable,
    WriteTimeout,
    WriteType,
)
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.protocol import OverloadedErrorMessage, SyntaxException

from tallyclerk.exceptions import CassandraRefusedError, ServiceUnavailableError, TerminalError
from tallyclerk.sinks.cassandra_client import Backoff, classify, retrying

AWAY = [
    NoHostAvailable("none", {"h": ConnectionRefusedError()}),
    NoHostAvailable("none", {}),
    OperationTimedOut(),
    ConnectionShutdown("closed"),
    WriteTimeout("late", consistency=ConsistencyLevel.ONE, write_type=WriteType.UNLOGGED_BATCH),
    Unavailable("few", consistency=ConsistencyLevel.ONE),
    OverloadedErrorMessage(0x1001, "busy", None),
    ConnectionResetError(),
]
REFUSED = [
    InvalidRequest("no"),
    Unauthorized("no"),
    AuthenticationFailed("no"),
    NoHostAvailable("none", {"h": AuthenticationFailed("bad password")}),
    SyntaxException(0x2000, "line 1", None),
]


@pytest.mark.parametrize("error", AWAY, ids=lambda error: type(error).__name__)
def test_it_is_transient_when_cassandra_is_away(error: Exception) -> None:
    assert isinstance(classify(error, address="h:1"), ServiceUnavailableError)


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: type(error).__name__)
def test_it_is_terminal_when_cassandra_refuses(error: Exception) -> None:
    ours = classify(error, address="h:1")
    assert isinstance(ours, TerminalError)
    assert "h:1" in str(ours)


def test_a_bug_stays_a_bug_when_classified() -> None:
    with pytest.raises(KeyError):
        classify(KeyError("x"), address="h:1")


def test_waits_grow_and_end_when_the_time_is_up() -> None:
    now = [0.0]
    waits = []
    for wait in Backoff(limit_seconds=60, first_seconds=1, longest_seconds=8).waits(clock=lambda: now[0]):
        waits.append(wait)
        now[0] += wait
    assert sum(waits) == pytest.approx(60)
    assert max(waits) <= 8
    assert waits[0] <= 1 < waits[4]


def test_a_call_is_repeated_until_it_succeeds() -> None:
    answers = [ConnectionShutdown("a"), OperationTimedOut(), 7]

    def call() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert retrying(call, backoff=Backoff(2, 0.01), address="h", what="test") == 7


def test_a_refusal_is_not_repeated() -> None:
    calls = []

    def call() -> None:
        calls.append(1)
        raise InvalidRequest("no")

    with pytest.raises(CassandraRefusedError):
        retrying(call, backoff=Backoff(2, 0.01), address="h", what="test")
    assert calls == [1]
