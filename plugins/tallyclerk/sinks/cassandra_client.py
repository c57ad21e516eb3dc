"""What a failing Cassandra means, how long to wait for it, and how many statements may be on the way."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from tallyclerk.exceptions import CassandraRefusedError, ServiceUnavailableError, TallyclerkError

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import Statement

log = logging.getLogger(__name__)
Result = TypeVar("Result")

_REMEDIES = {
    "AuthenticationFailed": "Correct login and password of the connection.",
    "Unauthorized": "Grant the connection's role MODIFY, SELECT and CREATE on the keyspace.",
    "SyntaxException": "This is a fault of the statement; check the names in the contract's cassandra mapping.",
    "UnresolvableContactPoints": "Correct the connection's host; it is a comma-separated list.",
}


def _refused(cause: BaseException, address: str) -> CassandraRefusedError:
    remedy = _REMEDIES.get(type(cause).__name__, "Compare the table with the contract's cassandra mapping.")
    return CassandraRefusedError(address=address, cause=cause, remedy=remedy)


def classify(error: BaseException, *, address: str) -> TallyclerkError:
    """The one place where a driver's error becomes ours.

    Away, overloaded or too slow is transient (:class:`ServiceUnavailableError`); a refusal is terminal
    (:class:`CassandraRefusedError`); ours stay what they are. An error that is not the driver's is raised as it is.
    """
    from cassandra import (
        AuthenticationFailed,
        CoordinationFailure,
        DriverException,
        OperationTimedOut,
        RequestExecutionException,
        RequestValidationException,
        Timeout,
        Unavailable,
        UnresolvableContactPoints,
    )
    from cassandra.cluster import NoHostAvailable
    from cassandra.connection import ConnectionException
    from cassandra.protocol import BadCredentials, ErrorMessage
    from cassandra.protocol import RequestValidationException as WireValidationException

    refusal = AuthenticationFailed | BadCredentials | RequestValidationException | WireValidationException
    if isinstance(error, TallyclerkError):
        return error
    if isinstance(error, NoHostAvailable):
        for cause in _nested(error):
            if isinstance(cause, refusal):
                return _refused(cause, address)
        return ServiceUnavailableError(service="Cassandra", address=address, cause=error)
    if isinstance(error, refusal | UnresolvableContactPoints):
        return _refused(error, address)
    away = OperationTimedOut | ConnectionException | Timeout | Unavailable | CoordinationFailure
    # RequestExecutionException: what else a node could not do now; ErrorMessage: overloaded, bootstrapping, server error
    if isinstance(error, away | RequestExecutionException | ErrorMessage | OSError):
        return ServiceUnavailableError(service="Cassandra", address=address, cause=f"{type(error).__name__}: {error}")
    if isinstance(error, DriverException):
        return _refused(error, address)
    raise error


def _nested(error: Any) -> Iterator[BaseException]:
    """What each host said; a NoHostAvailable carries a mapping, or nothing."""
    causes = error.errors
    yield from causes.values() if isinstance(causes, dict) else ()


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waits with full jitter, for at most ``limit_seconds`` after the first failure."""

    limit_seconds: float = 120.0
    first_seconds: float = 0.25
    longest_seconds: float = 8.0

    def waits(self, *, clock: Callable[[], float] = time.monotonic) -> Iterator[float]:
        """Seconds to sleep before each new attempt; ends when the time is up."""
        deadline, ceiling = clock() + self.limit_seconds, self.first_seconds
        while (left := deadline - clock()) > 0:
            yield min(ceiling * random.uniform(0.5, 1.0), left)
            ceiling = min(2 * ceiling, self.longest_seconds)


def retrying(call: Callable[[], Result], *, backoff: Backoff, address: str, what: str) -> Result:
    """``call()``, again after transient failures. The call must be idempotent.

    :raises ServiceUnavailableError: still failing after ``backoff.limit_seconds``.
    """
    waits: Iterator[float] | None = None
    while True:
        try:
            return call()
        except Exception as error:
            ours = classify(error, address=address)
            waits = waits or backoff.waits()
            wait = next(waits, None) if isinstance(ours, ServiceUnavailableError) else None
            if wait is None:
                raise ours from error
            log.warning("%s: %s: %s; again in %.1f s", what, type(error).__name__, error, wait)
            time.sleep(wait)


class BoundedWriter:
    """Sends idempotent statements with at most ``in_flight`` on the way, and counts the acknowledged rows.

    A statement that fails because Cassandra is away is kept and sent again (at most ``in_flight`` of them), first one
    alone as a probe, until ``backoff`` is used up. Nothing is counted before its acknowledgement.

    :ivar acknowledged: rows of all acknowledged statements.
    :ivar recoveries: how often Cassandra was away and came back.
    """

    def __init__(self, session: Session, *, in_flight: int, backoff: Backoff, address: str) -> None:
        self._session, self._in_flight, self._backoff, self._address = session, in_flight, backoff, address
        self._slots = threading.Semaphore(in_flight)
        self._lock = threading.Lock()
        self._failed: deque[tuple[Statement, int, BaseException]] = deque()
        self.acknowledged = 0
        self.recoveries = 0

    def send(self, statement: Statement, rows: int) -> None:
        """Send when there is a free place.

        :raises TallyclerkError: an earlier statement was refused, or Cassandra stayed away too long.
        """
        if self._failed:
            self._recover()
        self._slots.acquire()
        future = self._session.execute_async(statement)
        future.add_callbacks(self._succeeded, self._failed_once, callback_args=(rows,), errback_args=(statement, rows))

    def drain(self) -> int:
        """Wait for every answer.

        :return: all rows acknowledged so far.
        """
        self._wait()
        if self._failed:
            self._recover()
        return self.acknowledged

    def _succeeded(self, _: Any, rows: int) -> None:
        with self._lock:
            self.acknowledged += rows
        self._slots.release()

    def _failed_once(self, error: BaseException, statement: Statement, rows: int) -> None:
        self._failed.append((statement, rows, error))
        self._slots.release()

    def _wait(self) -> None:
        for _ in range(self._in_flight):
            self._slots.acquire()
        self._slots.release(self._in_flight)

    def _recover(self) -> None:
        self._wait()
        waiting = list(self._failed)
        self._failed.clear()
        for _, _, error in waiting:
            if not isinstance(ours := classify(error, address=self._address), ServiceUnavailableError):
                raise ours from error
        log.warning(
            "Cassandra at %s: %d statements on the way failed (%s), %s rows acknowledged; trying for up to %.0f s",
            self._address, len(waiting), type(waiting[0][2]).__name__, f"{self.acknowledged:,}",
            self._backoff.limit_seconds,
        )  # fmt: skip
        for statement, rows, _ in waiting:
            again = partial(self._session.execute, statement)
            retrying(again, backoff=self._backoff, address=self._address, what="write")
            with self._lock:
                self.acknowledged += rows
        self.recoveries += 1
