"""Messages of the client on their way into batches of columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from confluent_kafka import Message

BATCH_MESSAGES = 20_000
BATCH_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class MessageBatch:
    """Some messages, those of one partition in their order.

    :param timestamps: milliseconds since 1970, the producer's or the broker's by the topic's ``message.timestamp.type``.
    :param values: None for a tombstone.
    :param keys: as many, where they were asked for.
    """

    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64]
    values: list[bytes | None]
    keys: list[bytes | None] = field(default_factory=list)


class Gathered:
    """Messages on their way into one batch."""

    def __init__(self, *, keys: bool = False) -> None:
        self._keys = keys
        self._parts: list[tuple[Any, Any, Any, list[bytes | None], list[bytes | None]]] = []
        self._messages = self._bytes = 0

    @property
    def is_full(self) -> bool:
        return self._messages >= BATCH_MESSAGES or self._bytes >= BATCH_BYTES

    def add(self, messages: list[Message], ends: Mapping[int, int], reached: dict[int, int]) -> int:
        """Keep what lies before the ends; tell positions to ``reached``; return the bytes that came."""
        import numpy as np
        from confluent_kafka import Message

        if events_among(messages):
            messages = [message for message in messages if message.error() is None]
        count = len(messages)
        if not count:
            return 0
        # maps of the client's own methods: no frame of Python's for each message
        partitions = np.fromiter(map(Message.partition, messages), np.int32, count)
        offsets = np.fromiter(map(Message.offset, messages), np.int64, count)
        timestamps = np.array([at for _, at in map(Message.timestamp, messages)], np.int64)
        values = list(map(Message.value, messages))
        keys = list(map(Message.key, messages)) if self._keys else []
        inside = np.ones(count, np.bool_)
        for partition in np.unique(partitions):
            own = partitions == partition
            reached[int(partition)] = max(reached.get(int(partition), -1), int(offsets[own].max()) + 1)
            inside &= ~own | (offsets < ends[int(partition)])
        size = sum(map(len, filter(None, values)))
        if not inside.all():
            values = [value for value, wanted in zip(values, inside, strict=True) if wanted]
            keys = [key for key, wanted in zip(keys, inside, strict=True) if wanted] if keys else []
            partitions, offsets, timestamps = partitions[inside], offsets[inside], timestamps[inside]
        self._parts.append((partitions, offsets, timestamps, values, keys))
        self._messages += len(values)
        self._bytes += size
        return size

    def take(self) -> MessageBatch:
        import numpy as np

        parts, self._parts = self._parts, []
        self._messages = self._bytes = 0
        return MessageBatch(
            partitions=np.concatenate([part[0] for part in parts] or [np.zeros(0, np.int32)]),
            offsets=np.concatenate([part[1] for part in parts] or [np.zeros(0, np.int64)]),
            timestamps=np.concatenate([part[2] for part in parts] or [np.zeros(0, np.int64)]),
            values=[value for part in parts for value in part[3]],
            keys=[key for part in parts for key in part[4]],
        )


def events_among(messages: list[Message]) -> list[Message]:
    """What is no message but news of a partition; seldom any."""
    from confluent_kafka import Message

    if set(map(type, map(Message.error, messages))) <= {type(None)}:
        return []
    return [message for message in messages if message.error() is not None]
