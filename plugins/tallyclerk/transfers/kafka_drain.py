"""A topic drained into a Cassandra table: poll after poll, each from the cursor to where the topic ends when it begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tallyclerk.core.freshness import Freshness
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import LedgerError, OffsetsDeletedError
from tallyclerk.sources.kafka_newest import OFFSET_COLUMN
from tallyclerk.sources.kafka_range import KafkaRange
from tallyclerk.sources.kafka_topics import KafkaTopics
from tallyclerk.transfers.base import spool_directory
from tallyclerk.transfers.kafka_stream import DELETED_KEY

if TYPE_CHECKING:
    from pathlib import Path

    from tallyclerk.sinks.cassandra_drains import DrainPosition, DrainsTable
    from tallyclerk.sinks.cassandra_newest import CassandraNewest
    from tallyclerk.sinks.quarantine import Quarantine
    from tallyclerk.sources.kafka_newest import NewestOfKeys, Piece
    from tallyclerk.sources.kafka_range import OnDeleted

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Account:
    """What this drain did since it was opened."""

    offsets: Offsets | None = None
    ledger: Ledger = field(default_factory=Ledger)
    freshness: Freshness = field(default_factory=Freshness)
    deleted: dict[str, list[int]] = field(default_factory=dict)
    polls: int = 0
    removed_rows: int = 0
    recoveries: int = 0
    quarantine: str = ""


@dataclass(kw_only=True)
class Drain:
    """One topic's way into one table. A context manager.

    Guarantee: the table holds, of each key, the newest value before the cursor, whatever dies, is repeated or runs twice at once
    (:mod:`tallyclerk.sinks.cassandra_newest`). The cursor is moved after every write before it was acknowledged and the rejects
    are in quarantine, so that an attempt that dies costs at most one piece again.

    A topic that was made anew is drained from its beginning, and its rows outrank the old one's. A compacted topic may have lost
    messages behind the cursor: each of these had a newer one of its key after it, which is read.

    :param client: settings of the Kafka client.
    :param source: makes the source over a reader.
    :param quarantine: opens it, once there is something to keep there.
    :param on_deleted: whether messages that retention deleted unread fail the drain or are noted in its receipt.
    """

    client: Mapping[str, Any]
    topic: str
    dataset: str
    location: str
    source: Callable[[KafkaRange], NewestOfKeys]
    sink: CassandraNewest
    drains: DrainsTable
    quarantine: Callable[[], Quarantine]
    group: str
    load_id: str = ""
    contract_version: str = ""
    on_deleted: OnDeleted = "fail"
    is_stopped: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._topics, self._started = KafkaTopics(self.client), time.monotonic()
        self._account = _Account()
        self._position: DrainPosition | None = None
        self._reader: KafkaRange | None = None
        self.lag_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.__exit__(kind, error, traceback)
            self._reader = None

    def poll(self) -> dict[str, float]:
        """Write what is new up to the read_committed end of now; a stop is obeyed after the present piece.

        :return: the poll's gauges: ``lag_rows``, the offsets between the cursor and the end after it, and
            ``freshness_seconds``, the longest time from a message's timestamp to its acknowledged write, where there were any.
        :raises TooManyRejectsError, RecordError: the data does not fit; what was written before stays.
        :raises OffsetsDeletedError: retention was faster.
        :raises TransientError: Kafka or Cassandra is away; a retry goes on from the cursor.
        """
        topic_id, poll_freshness = self._topics.id_of(self.topic), Freshness()
        if self._position is None or self._position.topic_id != topic_id:
            self._begin(topic_id)
        assert self._position is not None
        assert self._reader is not None
        try:
            offsets, deleted = self._reader.plan(self._position.offsets, on_deleted=self.on_deleted)
        except OffsetsDeletedError:
            if self._topics.id_of(self.topic) == topic_id:
                raise
            return self.poll()  # the topic was made anew between the two questions
        self._account.polls += 1
        for partition, gap in deleted.items():
            self._account.deleted[str(partition)] = list(gap)
        if any(end > self._position.offsets.get(partition, -1) for partition, end in offsets.ends().items()):
            with spool_directory() as directory:
                self._drain(self._reader, offsets, directory, poll_freshness)
            self._topics.mirror(self.group, self.topic, self._position.offsets)
        ends = {partition: end for partition, (_, end) in self._reader.bounds().items()}
        self.lag_rows = sum(max(0, end - self._position.offsets.get(each, 0)) for each, end in ends.items())
        gauges = {"lag_rows": float(self.lag_rows)}
        if poll_freshness.max_seconds:
            gauges["freshness_seconds"] = poll_freshness.max_seconds
        return gauges

    def receipt(self) -> Receipt:
        """Of everything since this was opened; the newest one in the table, ``repeated``, when there was nothing to write."""
        if self._account.offsets is not None:
            return self._signed(self._account.offsets)
        held = self._position.receipt if self._position else None
        if held is not None:
            return replace(held.as_repeated(), details={**held.details, "lag_rows": self.lag_rows})
        return replace(self._signed(Offsets(self.topic, {})), repeated=True)

    def _begin(self, topic_id: str) -> None:
        """The cursor of this very topic, and a reader that knows nothing of an older one."""
        self.__exit__(None, None, None)
        former = self._position
        self._position = self.drains.claim(self.topic, topic_id)
        self._reader = KafkaRange(client=self.client, topic=self.topic, keys=True).__enter__()
        if former is not None or not self._position.offsets:
            log.info("%s: from the beginning of %s, generation %d", self.drains.drain, self.topic, self._position.generation)  # fmt: skip
        if former is not None:
            self._account = replace(self._account, offsets=None)  # the ranges of two topics do not join

    def _drain(self, reader: KafkaRange, offsets: Offsets, directory: Path, freshness: Freshness) -> None:
        with closing(self.source(reader).pieces(offsets, directory)) as pieces:  # type: ignore[type-var]
            for piece in pieces:
                self._take(reader, piece, directory, freshness)
                if self.is_stopped():
                    log.info("%s: was stopped, at %s", self.drains.drain, dict(piece.offsets.ends()))
                    return

    def _take(self, reader: KafkaRange, piece: Piece, directory: Path, freshness: Freshness) -> None:
        """Rejects, rows, cursor, in this order."""
        import numpy as np

        account, position = self._account, self._position
        assert position is not None
        piece.ledger.check(load=self.drains.drain)
        joined = account.offsets.joined(piece.offsets) if account.offsets else piece.offsets
        if piece.rejects:
            receipt = replace(self._signed(piece.offsets), ledger=piece.ledger)
            account.quarantine = self._quarantine.replace_range(
                piece.offsets, reader.uri, piece.rejects, receipt, directory
            )
        writer = self.sink.write(
            piece.rows, piece.removed, offset_column=OFFSET_COLUMN, generation=position.generation
        )  # fmt: skip
        if writer.acknowledged != piece.ledger.written:
            raise LedgerError(
                load=self.drains.drain, rule="every newest value is acknowledged",
                counts={"newest": piece.ledger.written, "acknowledged": writer.acknowledged},
            )  # fmt: skip
        ages = time.time() - piece.timestamps / np.float64(1_000)
        for each in (account.freshness, freshness):
            each.add(ages)
        account.offsets, account.ledger = joined, account.ledger + piece.ledger
        account.removed_rows += len(piece.removed)
        account.recoveries += writer.recoveries
        self._position = self.drains.advance(position, piece.offsets.ends(), self._signed(joined))

    @cached_property
    def _quarantine(self) -> Quarantine:
        return self.quarantine()

    def _signed(self, offsets: Offsets) -> Receipt:
        from tallyclerk.sinks.lake_stream import range_name

        account, position = self._account, self._position
        details: dict[str, Any] = {
            "seconds": round(time.monotonic() - self._started, 3),
            "polls": account.polls,
            "removed_rows": account.removed_rows,
            "recoveries": account.recoveries,
            "freshness_seconds": account.freshness.as_dict(),
            "lag_rows": self.lag_rows,
        }
        if account.deleted:
            details[DELETED_KEY] = account.deleted
        return Receipt(
            dataset=self.dataset,
            window=range_name(offsets),
            ledger=account.ledger,
            location=self.location,
            version=position.generation if position else -1,
            load_id=self.load_id,
            contract_version=self.contract_version,
            sources=({"uri": f"kafka://{self.client.get('bootstrap.servers', '')}/{self.topic}", "records": account.ledger.read},),
            cursor={OFFSETS_KEY: offsets.as_dict()},
            quarantine=account.quarantine,
            details=details,
        )  # fmt: skip
