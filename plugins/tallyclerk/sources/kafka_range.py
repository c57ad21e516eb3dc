"""Ranges of offsets, planned and read exactly: every visible message in them once, none beside them.

The consumer is read_committed and belongs to no group: offsets are assigned, never stored (promise P3: the cursor lives with
the data). A range ends where a partition's *position* has passed its end. Counting messages would never do: transaction
markers, aborted and compacted messages take offsets and are not seen.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast
from uuid import uuid4

from tallyclerk.core.offsets import Offsets
from tallyclerk.exceptions import OffsetsDeletedError, ServiceUnavailableError, SpecError
from tallyclerk.sinks.kafka_errors import SERVICE, classify, kafka_errors
from tallyclerk.sources.kafka_batches import BATCH_BYTES, Gathered, MessageBatch, events_among

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message

log = logging.getLogger(__name__)

OnDeleted = Literal["fail", "record"]

_FETCH_MESSAGES = 2_000  # taken from the client at once; fewer where messages are large
_WAIT_SECONDS = 0.1
_LIMIT_SECONDS = 60.0
_CONSUMER = {
    "fetch.wait.max.ms": 50,  # how long the broker keeps silent at the end of a partition
    "queued.max.messages.kbytes": 32_768,
    "queued.min.messages": 50_000,
}
"""Settings of a consumer, unless the client's settings say otherwise."""


class KafkaRange:
    """Reads ranges of one topic. A context manager.

    :param client: settings of the Kafka client: ``bootstrap.servers``, how to log in, and any of librdkafka's own.
    :param stall_limit_seconds: how long to wait without a sign of the broker.
    :param keys: the batches carry the messages' keys too.
    """

    def __init__(
        self, *, client: Mapping[str, Any], topic: str, stall_limit_seconds: float = 120.0, keys: bool = False
    ) -> None:
        self.topic, self._client, self._stall_limit, self._keys = topic, client, stall_limit_seconds, keys
        self._address = str(client.get("bootstrap.servers", ""))
        self._consumer: Consumer | None = None
        self._last_error: KafkaError | None = None

    @property
    def uri(self) -> str:
        return f"kafka://{self._address}/{self.topic}"

    def __enter__(self) -> Self:
        from confluent_kafka import Consumer

        decided = {
            "group.id": f"tallyclerk.{uuid4().hex}",  # asked for by the client; no group is joined
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "error_cb": self._remember,
        }
        with kafka_errors(address=self._address, what="a consumer's settings"):
            self._consumer = Consumer({**_CONSUMER, **self._client, **decided}, logger=log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def exists(self) -> bool:
        """Whether there is such a topic."""
        from confluent_kafka import KafkaError

        with kafka_errors(address=self._address, what=f"the topic {self.topic!r}"):
            found = self._opened().list_topics(self.topic, timeout=_LIMIT_SECONDS).topics[self.topic]
        return found.error is None or found.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART

    def bounds(self) -> dict[int, tuple[int, int]]:
        """Partition → the first offset there is, and the last stable one: where a read_committed reader has to stop now.

        :raises KafkaRefusedError: there is no such topic, or no right to read it.
        :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka import TopicPartition

        consumer = self._opened()
        with kafka_errors(address=self._address, what=f"reading the topic {self.topic!r}"):
            found = consumer.list_topics(self.topic, timeout=_LIMIT_SECONDS).topics[self.topic]
            if found.error is not None:
                raise classify(found.error, address=self._address, what=f"the topic {self.topic!r}")
            answers = {}
            for partition in sorted(found.partitions):
                # of a read_committed consumer the upper one is the last stable offset, not the high watermark
                bounds = consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=_LIMIT_SECONDS)
                if bounds is None:
                    raise ServiceUnavailableError(service=SERVICE, address=self._address, cause="no answer in time")
                answers[partition] = bounds
        return answers

    def since(self, timestamp_ms: int) -> dict[int, int]:
        """Partition → where to begin so as to miss no message of this time or a later one; its read_committed end where none is.

        Times are those that the topic keeps. Transaction markers bear the broker's clock: with ``CreateTime`` they may let a
        reading begin earlier than it has to.

        :param timestamp_ms: milliseconds since 1970.
        :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka import TopicPartition

        bounds = self.bounds()
        asked = [TopicPartition(self.topic, partition, timestamp_ms) for partition in bounds]
        with kafka_errors(address=self._address, what=f"reading the topic {self.topic!r}"):
            answers = self._opened().offsets_for_times(asked, timeout=_LIMIT_SECONDS)
        # "none" is -1, and a message of a transaction that is still open stands after the end
        return {
            each.partition: min(
                each.offset if each.offset >= 0 else bounds[each.partition][1], bounds[each.partition][1]
            )
            for each in answers
        }

    def plan(
        self, position: Mapping[int, int], *, max_messages: int | None = None, on_deleted: OnDeleted = "fail"
    ) -> tuple[Offsets, dict[int, tuple[int, int]]]:
        """From a position to the read_committed end of now.

        :param position: partition → next offset; a partition that is not named is read from its beginning.
        :param max_messages: offsets to read at most, in all; partitions that are further behind get more of them.
        :param on_deleted: whether messages that are gone are an error or a fact to record.
        :return: the range, of all partitions, also of those with nothing new; and, by partition, what was deleted unread.
        :raises OffsetsDeletedError: messages after the position are gone, or the topic was made anew.
        """
        deleted: dict[int, tuple[int, int]] = {}
        ranges = {}
        for partition, (first, end) in self.bounds().items():
            start = position.get(partition, first)
            if start > end:
                raise self._deleted(partition, start, first, f"the topic ends at {end:,}: it was made anew")
            if start < first:
                if on_deleted == "fail":
                    raise self._deleted(partition, start, first, "retention has deleted it")
                deleted[partition] = (start, first)
                start = first
            ranges[partition] = (start, end)
        return Offsets(self.topic, _capped(ranges, max_messages)), deleted

    def read(self, offsets: Offsets) -> Iterator[MessageBatch]:
        """The messages of the range.

        :raises OffsetsDeletedError: a part of it is gone, also when that happens while it is read.
        :raises ServiceUnavailableError: the broker is away, or a transaction stays open in the range.
        """
        from confluent_kafka import TopicPartition

        if offsets.topic != self.topic:
            raise SpecError(f"The offsets are of {offsets.topic!r}, the topic is {self.topic!r}.")
        self._check(offsets)
        consumer = self._opened()
        ends = {partition: end for partition, _, end in offsets}
        with kafka_errors(address=self._address, what=f"reading the topic {self.topic!r}"):
            assigned = [TopicPartition(self.topic, partition, start) for partition, start, _ in offsets]
            consumer.assign(assigned)
            consumer.resume(assigned)  # the client keeps the pauses of an earlier reading
            try:
                yield from self._batches(consumer, ends, {partition: start for partition, start, _ in offsets})
            finally:
                consumer.unassign()

    def _check(self, offsets: Offsets) -> None:
        """Hold the range to what there is; wait for its end to become stable.

        A transaction's markers are written a moment after its commit was answered, so that a range which its writer knows to
        be committed may not be readable yet.
        """
        deadline = time.monotonic() + self._stall_limit
        while unstable := self._unstable(offsets):
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(service=SERVICE, address=self._address, cause=unstable)
            time.sleep(_WAIT_SECONDS)

    def _unstable(self, offsets: Offsets) -> str:
        """Which partition is not readable up to its end; "" when all are."""
        bounds = self.bounds()
        for partition, start, end in offsets:
            if partition not in bounds:
                raise SpecError(f"{self.topic} has no partition {partition}; correct the offsets.")
            first, stable = bounds[partition]
            if start < first:
                raise self._deleted(partition, start, first, "retention has deleted it")
            if end > stable:
                return f"{self.topic}[{partition}] is stable up to offset {stable:,}, the range goes to {end:,}"
        return ""

    def _batches(self, consumer: Consumer, ends: dict[int, int], starts: dict[int, int]) -> Iterator[MessageBatch]:
        from confluent_kafka import TopicPartition

        left = dict(ends)
        gathered = Gathered(keys=self._keys)
        fetch, heard = _FETCH_MESSAGES, time.monotonic()
        while left:
            messages = consumer.consume(fetch, _WAIT_SECONDS)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._stall_limit:
                raise self._stalled(left)
            reached = self._events(messages, starts)
            size = gathered.add(messages, ends, reached)
            fetch = min(_FETCH_MESSAGES, max(16, BATCH_BYTES * len(messages) // max(size, 1))) if size else fetch
            for partition in [each for each in left if reached.get(each, -1) >= ends[each]]:
                del left[partition]
                consumer.pause([TopicPartition(self.topic, partition)])
            if gathered.is_full or not left:
                batch = gathered.take()
                if batch.values:
                    yield batch
                    heard = time.monotonic()

    def _events(self, messages: list[Message], starts: Mapping[int, int]) -> dict[int, int]:
        """Partition → position, as far as ends of partitions tell it; a reader of markers sees nothing else."""
        from confluent_kafka import KafkaError

        reached: dict[int, int] = {}
        for message in events_among(messages):
            error, partition = message.error(), cast("int", message.partition())
            assert error is not None
            if error.code() == KafkaError._PARTITION_EOF:
                reached[partition] = cast("int", message.offset())
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                first, start = self.bounds()[partition][0], max(starts.get(partition, 0), cast("int", message.offset()))
                raise self._deleted(partition, start, first, "it was deleted while it was read")
            else:
                meant = classify(error, address=self._address, what=f"reading the topic {self.topic!r}")
                if not isinstance(meant, ServiceUnavailableError):
                    raise meant
                self._last_error = error  # the client goes on trying; how long, the stall limit says
        return reached

    def _deleted(self, partition: int, start: int, first: int, cause: str) -> OffsetsDeletedError:
        return OffsetsDeletedError(topic=self.topic, partition=partition, start=start, first=first, cause=cause)

    def _stalled(self, left: Mapping[int, int]) -> Exception:
        if self._last_error is not None:
            return classify(self._last_error, address=self._address, what=f"reading the topic {self.topic!r}")
        waiting = ", ".join(f"[{partition}] to {end:,}" for partition, end in left.items())
        cause = f"nothing came for {self._stall_limit:.0f} s; left of {self.topic}: {waiting}"
        return ServiceUnavailableError(service=SERVICE, address=self._address, cause=cause)

    def _remember(self, error: KafkaError) -> None:
        self._last_error = error

    def _opened(self) -> Consumer:
        if self._consumer is None:
            raise SpecError("The reader is not open; use it as a context manager.")
        return self._consumer


def _capped(ranges: dict[int, tuple[int, int]], most: int | None) -> dict[int, tuple[int, int]]:
    """Shorten ranges to so many offsets in all; small ones are kept whole, the others get equal shares."""
    if most is None:
        return ranges
    capped, left = {}, most
    waiting = sorted(ranges, key=lambda partition: ranges[partition][1] - ranges[partition][0])
    for position, partition in enumerate(waiting):
        start, end = ranges[partition]
        share = min(end - start, left // (len(waiting) - position))
        capped[partition] = (start, start + share)
        left -= share
    return dict(sorted(capped.items()))
