"""Messages on their way to the broker, and the account of those that arrived.

One ``produce`` a message with a delivery report for each (``bench/kafka_encode.py``, 146 bytes each): 2.0 µs of CPU, without
reports 1.5, but then nobody has counted what arrived, nor where. ``produce_batch`` gains next to nothing (1.85 and 1.6 µs),
because a dict is made of each message; and it drops headers and returns short when the queue is full.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tallyclerk.core.offsets import Offsets
from tallyclerk.exceptions import LedgerError, ServiceUnavailableError
from tallyclerk.sinks.kafka_errors import SERVICE, classify, kafka_errors

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message, Producer

_POLL_EVERY = 2_000  # messages
_ROOM_SECONDS = 0.2


class Delivery:
    """Sends the messages of one transaction to one topic, and counts each acknowledgement.

    A full queue holds the caller back. It ends: a message that cannot be delivered fails after ``message.timeout.ms``.

    :param load: the load's name, for messages.
    """

    def __init__(self, producer: Producer, *, topic: str, address: str, load: str) -> None:
        self._producer, self._topic, self._address, self._load = producer, topic, address, load
        self._failure: KafkaError | None = None
        self._ranges: dict[int, list[int]] = {}
        self.sent = self.acked = 0

    @property
    def offsets(self) -> Offsets:
        """Where the acknowledged messages stand."""
        return Offsets(self._topic, {partition: (first, last + 1) for partition, (first, last) in self._ranges.items()})

    def send(
        self,
        messages: Iterable[tuple[bytes, bytes | None]],
        *,
        partition: int = -1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Hand keys and values to the client, in order.

        :param partition: where to; by the key's hash when -1.
        :param headers: of each of the messages.
        :raises TallyclerkError: one of these or of earlier ones was refused or not delivered in time.
        """
        from confluent_kafka import KafkaException

        produce, reported = self._producer.produce, self._reported
        more: dict[str, Any] = {"headers": dict(headers)} if headers else {}
        count = 0
        for key, value in messages:
            while True:
                try:
                    produce(self._topic, value, key, partition, on_delivery=reported, **more)
                    break
                except BufferError:
                    self.serve(_ROOM_SECONDS)
                except KafkaException as error:
                    what = f"a message of {len(value or b''):,} bytes to the topic {self._topic!r}"
                    raise classify(error, address=self._address, what=what, load=self._load) from error
            count += 1
            if count % _POLL_EVERY == 0:
                self.serve(0)
        self.sent += count

    def serve(self, seconds: float) -> None:
        """Take delivery reports, waiting at most ``seconds`` for the first.

        :raises TallyclerkError: a message was not delivered, or this producer is fenced.
        """
        with kafka_errors(address=self._address, what=f"messages to the topic {self._topic!r}", load=self._load):
            self._producer.poll(seconds)
        self.check()

    def check(self) -> None:
        """:raises TallyclerkError: a message was not delivered."""
        if self._failure is not None:
            what = f"a message to the topic {self._topic!r}"
            raise classify(self._failure, address=self._address, what=what, load=self._load)

    def require_all(self) -> None:
        """Called after :func:`flush`: every message that was sent must have been acknowledged.

        :raises LedgerError: that is not so, and no report says why.
        """
        self.check()
        if self.acked != self.sent:
            raise LedgerError(
                load=self._load,
                counts={"sent": self.sent, "acknowledged": self.acked},
                rule=f"every message to {self._topic!r} is acknowledged",
            )

    def _reported(self, error: KafkaError | None, message: Message) -> None:
        # an exception in here would be lost in the client's C code: the failure is kept for check()
        if error is not None:
            self._failure = self._failure or error
            return
        self.acked += 1
        partition, offset = message.partition(), message.offset()
        assert partition is not None and offset is not None  # noqa: PT018 - an acknowledged message has both
        span = self._ranges.get(partition)
        if span is None:
            self._ranges[partition] = [offset, offset]
        else:
            span[1] = offset


def flush(producer: Producer, deliveries: Sequence[Delivery], *, limit_seconds: float, address: str) -> None:
    """Wait until every message is acknowledged.

    Not by ``Producer.flush``: that may return with messages left, and loses the exception of a fenced producer.

    :raises TallyclerkError: a message was not delivered, or not within ``limit_seconds``.
    """
    deadline = time.monotonic() + limit_seconds
    while left := len(producer):
        for delivery in deliveries:
            delivery.serve(_ROOM_SECONDS / len(deliveries))
        if time.monotonic() > deadline:
            raise ServiceUnavailableError(
                service=SERVICE,
                address=address,
                cause=f"{left:,} messages are not acknowledged after {limit_seconds:.0f} s",
            )
    for delivery in deliveries:
        delivery.require_all()
