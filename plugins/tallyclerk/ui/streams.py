"""How far the streams are: what drains and stream loads have taken, beside the ends of their topics."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tallyclerk.core.offsets import OFFSETS_KEY
from tallyclerk.core.receipt import Receipt
from tallyclerk.hooks.connections import connections
from tallyclerk.serving.kpi_view import if_made
from tallyclerk.sinks.cassandra_drains import KnownDrain, known_drains
from tallyclerk.sinks.lake_stream import POSITION_KEY
from tallyclerk.sources.kafka_topics import KafkaTopics, PartitionEnd
from tallyclerk.ui.loads import Load
from tallyclerk.ui.services import KEYSPACE, PATIENCE_SECONDS, cassandra_hook

_lock = threading.Lock()
_topics: KafkaTopics | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """One topic's way into one table.

    :param target: the table. :param loaded_at: of the newest load (UTC). :param receipt: of it; None where none is signed yet.
    :param lag: offsets between its position and the topic's end; None where the topic is gone. :param newest_at: of the topic's newest message (UTC).
    """

    target: str
    topic: str
    loaded_at: datetime
    receipt: Receipt | None
    lag: int | None
    newest_at: datetime | None

    @property
    def freshness_seconds(self) -> float | None:
        """How old its messages were when they were written, 95 of 100 at most; None where the sink does not tell."""
        told = self.receipt.details.get("freshness_seconds") if self.receipt else None
        return told["p95"] if isinstance(told, dict) else None


def streams(loads: Iterable[Load]) -> list[Stream]:
    """The drains into Cassandra, then the loads that append to the lake.

    :param loads: the newest ones; those of windows are left out.
    :raises ServiceUnavailableError: Cassandra or Kafka is away.
    """
    drained = [(drain, drain.position.topic, drain.position.offsets) for drain in _drains()]
    appended = [(load, *found) for load in loads if (found := _position(load.receipt))]
    asked = {(topic, partition) for _, topic, position in (*drained, *appended) for partition in position}
    ends = _kafka().ends(asked)
    return [
        *(_stream(f"Cassandra {drain.target}", topic, drain.updated_at, drain.position.receipt, position, ends) for drain, topic, position in drained),
        *(_stream(load.receipt.location.rpartition("/data/")[2], topic, load.finished_at, load.receipt, position, ends) for load, topic, position in appended),
    ]  # fmt: skip


def _stream(
    target: str,
    topic: str,
    loaded_at: datetime,
    receipt: Receipt | None,
    position: Mapping[int, int],
    ends: Mapping[tuple[str, int], PartitionEnd],
) -> Stream:
    own = {partition: end for partition in position if (end := ends.get((topic, partition)))}
    lag = sum(max(0, end.offset - position[partition]) for partition, end in own.items()) if own else None
    newest = [end.newest_at for end in own.values() if end.newest_at is not None]
    return Stream(target, topic, loaded_at, receipt, lag, max(newest, default=None))


def _position(receipt: Receipt) -> tuple[str, dict[int, int]] | None:
    """Topic and next offsets of a load that appends what is new; None of any other."""
    held, ranges = receipt.cursor.get(POSITION_KEY), receipt.cursor.get(OFFSETS_KEY)
    if not held or not ranges:
        return None
    return next(iter(ranges)), {int(partition): int(offset) for partition, offset in held.items()}


def _drains() -> Sequence[KnownDrain]:
    hook = cassandra_hook()
    found = if_made(
        lambda: known_drains(
            hook.session, keyspace=hook.keyspace or KEYSPACE, backoff=hook.backoff, address=hook.address
        )
    )
    return found or ()


def _kafka() -> KafkaTopics:
    """One client that is kept: to connect takes longer than all it is asked."""
    from tallyclerk.hooks.kafka_cluster import KafkaClusterHook

    global _topics
    with _lock:
        if _topics is None:
            with connections():
                _topics = KafkaTopics(KafkaClusterHook().client_config, limit_seconds=PATIENCE_SECONDS)
        return _topics
