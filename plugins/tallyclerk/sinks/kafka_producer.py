"""A producer of transactions: fence, begin, commit or abort, each to a known end or to the sentence that it is unknown."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import ConcurrentLoadError, ServiceUnavailableError, TallyclerkError, TerminalError
from tallyclerk.sinks.kafka_errors import SERVICE, classify, kafka_errors

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Producer

log = logging.getLogger(__name__)

DEFAULTS: Mapping[str, Any] = {
    "enable.idempotence": True,
    "acks": "all",
    # as Java clients place keys, so that a topic of several writers stays partitioned by key
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "linger.ms": 20,
    "queue.buffering.max.messages": 200_000,
    "queue.buffering.max.kbytes": 131_072,
    "transaction.timeout.ms": 300_000,
}
"""Settings of a producer, unless the client's settings say otherwise."""

_STEP_SECONDS = 30.0


class TransactionalProducer:
    """One ``transactional.id``; whoever made a producer of that id before is fenced by :meth:`fence_others`.

    :param client: settings of the Kafka client; they go before :data:`DEFAULTS`.
    :param limit_seconds: how long to wait for the broker at each step.
    :ivar messages: the client's own producer, to send with.
    """

    def __init__(self, client: Mapping[str, Any], *, transactional_id: str, limit_seconds: float) -> None:
        from confluent_kafka import Producer

        self._id, self._limit = transactional_id, limit_seconds
        self._address = str(client["bootstrap.servers"])
        self._last_error: KafkaError | None = None
        self._end_unknown = False
        settings = {**DEFAULTS, **client, "transactional.id": transactional_id, "error_cb": self._remember}
        with kafka_errors(address=self._address, what="the connection's settings"):
            self.messages: Producer = Producer(settings, logger=log)

    def fence_others(self) -> None:
        """End what earlier producers of this id left open, and keep them from going on (KIP-98, KIP-360).

        :raises KafkaRefusedError: the login, or its right to the transactional id, was refused.
        :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + self._limit
        while True:
            try:
                self.messages.init_transactions(min(self._limit, _STEP_SECONDS))
                return
            except KafkaException as error:
                with suppress(KafkaException):
                    self.messages.poll(0)  # for _remember
                ours = classify(error, address=self._address, what=f"the transactional id {self._id!r}")
                if self._last_error is not None and isinstance(ours, ServiceUnavailableError):
                    # a refused login shows only as time running out
                    reason = classify(self._last_error, address=self._address, what="the connection")
                    if not isinstance(reason, ServiceUnavailableError):
                        raise reason from error
                if not error.args[0].retriable() or time.monotonic() > deadline:
                    raise ours from error

    @contextmanager
    def transaction(self, load: str) -> Iterator[None]:
        """Commit at the end; abort on any error, so that nothing of it is ever visible to read_committed readers.

        :param load: the load's name, for messages.
        :raises ConcurrentLoadError: another producer of this id was begun meanwhile.
        :raises ServiceUnavailableError: Kafka is away. Only when it went away during the commit itself may the transaction
            have been committed; this object then refuses to be used again.
        """
        if self._end_unknown:
            raise ServiceUnavailableError(
                service=SERVICE, address=self._address, cause="the former transaction's end is not known; begin anew"
            )
        with kafka_errors(address=self._address, what="to begin a transaction", load=load):
            self.messages.begin_transaction()
        try:
            yield
            self._commit(load)
        except BaseException as error:
            if self._end_unknown:
                raise
            reasons = [self._state_error(load), self._abort(load)]
            for reason in reasons:
                # the client's other calls only say "fatal", and its messages only that they were purged
                if isinstance(reason, ConcurrentLoadError):
                    raise reason from error
                if isinstance(reason, TerminalError) and isinstance(error, ServiceUnavailableError):
                    raise reason from error
            raise

    def close(self) -> None:
        """After commit or abort nothing is on the way; what a broker that is away left behind must not hold us up."""
        from confluent_kafka import KafkaException

        self.messages.purge()
        with suppress(KafkaException):  # a fenced producer says so once more
            self.messages.poll(0)

    def _commit(self, load: str) -> None:
        from confluent_kafka import KafkaException

        deadline = time.monotonic() + self._limit
        while True:
            try:
                self.messages.commit_transaction(min(self._limit, _STEP_SECONDS))
                return
            except KafkaException as error:
                found: KafkaError = error.args[0]
                if found.retriable() and time.monotonic() < deadline:
                    continue  # the client goes on where it was
                # it may have been committed: an abort now would ask for the opposite
                self._end_unknown = found.retriable()
                raise classify(error, address=self._address, what="to commit a transaction", load=load) from error

    def _state_error(self, load: str) -> TallyclerkError | None:
        """The first error of the open transaction, None when there was none.

        Any call that its state forbids tells it; this one has no effect there.
        """
        from confluent_kafka import KafkaError, KafkaException

        try:
            self.messages.begin_transaction()
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                return classify(error, address=self._address, what="the transaction", load=load)
        return None

    def _abort(self, load: str) -> TallyclerkError | None:
        """Abort, or say why that was not possible.

        A transaction that is not aborted stays invisible: the next attempt ends it, or the broker when its time is up.
        """
        from confluent_kafka import KafkaException

        try:
            self.messages.abort_transaction(min(self._limit, _STEP_SECONDS))
        except KafkaException as error:
            self._end_unknown = True
            log.warning("%s: the transaction is not aborted yet: %s", load, error.args[0].str())
            return classify(error, address=self._address, what="to abort a transaction", load=load)
        return None

    def _remember(self, error: KafkaError) -> None:
        self._last_error = error
