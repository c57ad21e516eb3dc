"""One step of a stream: from the position in the table to the read_committed end of the topic, in one commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import uuid4

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.exceptions import ConcurrentLoadError, SpecError
from tallyclerk.transfers.base import spool_directory

if TYPE_CHECKING:
    from tallyclerk.core.extract import Extract
    from tallyclerk.sinks.lake_stream import LakeStream, StreamHead
    from tallyclerk.sinks.quarantine import Quarantine
    from tallyclerk.sources.kafka_messages import KafkaMessages
    from tallyclerk.sources.kafka_range import KafkaRange, OnDeleted

ATTEMPTS = 5
DELETED_KEY = "deleted"
"""In ``Receipt.details``: partition → [start, end) of messages that retention deleted before they were read."""
BEHIND_KEY = "behind"
"""In ``Receipt.details``: offsets that were left for the next load, as ``max_messages`` stopped this one."""


@dataclass(frozen=True, kw_only=True)
class StreamLoad:
    """Appends what is new in a topic to a table.

    Guarantee: each message once, per partition in order. The position stands in the table's commits, so that a retry, a
    clear and a run beside this one go on from what is there; the loser of a race plans again. The rejects are quarantined
    before the rows are committed, under the same offsets, and again by whoever reads them again.

    :param reader: open. :param table, quarantine: of the same topic.
    :param source: makes the source of a range, given the range and a load's id.
    :param start: partition → first offset, where the table has no position; partitions that are not named begin at the
        topic's begin.
    :param max_messages: offsets to read at most.
    :param on_deleted: whether messages that are gone unread fail the load or are noted in its receipt.
    :param details: what the receipts tell besides.
    """

    reader: KafkaRange
    table: LakeStream
    quarantine: Quarantine
    source: Callable[[Offsets, str], KafkaMessages]
    contract_version: str = ""
    start: Mapping[int, int] | None = None
    max_messages: int | None = None
    on_deleted: OnDeleted = "fail"
    details: Mapping[str, object] = field(default_factory=dict)

    def run(self) -> Receipt:
        """Load what is new; with nothing new, the newest receipt, ``repeated``.

        :raises ConcurrentLoadError: others kept committing.
        :raises OffsetsDeletedError, ServiceUnavailableError: see :meth:`KafkaRange.plan` and :meth:`KafkaRange.read`.
        """
        return self._repeatedly(self._forward)

    def reload(self, offsets: Offsets, *, always: bool = False) -> Receipt:
        """Load a range, in place of the earlier loads that lie in it. The forward position never goes back.

        :param always: also when the table holds just this.
        :raises SpecError: an earlier load lies only partly in the range, or the range leaves a gap behind the position.
        """
        return self._repeatedly(lambda head: self._again(head, offsets, always=always))

    def _repeatedly(self, attempt: Callable[[StreamHead], Receipt]) -> Receipt:
        for _ in range(ATTEMPTS - 1):
            try:
                return attempt(self.table.head())
            except ConcurrentLoadError:
                continue  # the next plan starts from the other's rows
        return attempt(self.table.head())

    def _forward(self, head: StreamHead) -> Receipt:
        position = {**(self.start or {}), **head.position}
        offsets, deleted = self.reader.plan(position, max_messages=self.max_messages, on_deleted=self.on_deleted)
        if not offsets:
            return self._nothing_new(head, offsets)
        facts: dict[str, object] = {}
        if deleted:
            facts[DELETED_KEY] = {str(partition): list(gap) for partition, gap in deleted.items()}
        if self.max_messages is not None:
            stable = self.reader.bounds()
            facts[BEHIND_KEY] = sum(stable[partition][1] - end for partition, end in offsets.ends().items())
        return self._load(head, offsets, facts, ())

    def _again(self, head: StreamHead, offsets: Offsets, *, always: bool) -> Receipt:
        for partition, start, _ in offsets:
            if start > head.position.get(partition, start):
                raise SpecError(
                    f"The table goes on from {self.table.topic}[{partition}] offset {head.position[partition]:,}; a range that "
                    f"begins at {start:,} would leave a gap. Begin there, or earlier."
                )
        replaced = self.table.covered(offsets)
        fingerprint = self.source(offsets, "").fingerprint_of_range()
        if len(replaced) == 1 and replaced[0].fingerprint == fingerprint and not always:
            return replaced[0].as_repeated()
        return self._load(head, offsets, {}, replaced)

    def _load(
        self, head: StreamHead, offsets: Offsets, facts: Mapping[str, object], replaced: Sequence[Receipt]
    ) -> Receipt:
        from tallyclerk.sinks.lake_stream import range_name

        started, load_id, name = time.monotonic(), uuid4().hex, range_name(offsets)
        source = self.source(offsets, load_id)
        with spool_directory() as directory:
            extract = source.extract_as(name, directory)
            extract.ledger.check(load=load_name(self.table.dataset, name))
            receipt = self._receipt(extract, name, load_id)
            receipt = replace(
                receipt,
                details={
                    **self.details,
                    **facts,
                    "seconds": round(time.monotonic() - started, 3),
                    "engine": "local",
                },
            )
            quarantined = self.quarantine.replace_range(
                offsets, self.reader.uri, extract.dated_rejects, receipt, directory
            )
            return self.table.append(head, extract.files, replace(receipt, quarantine=quarantined), replaced=replaced)

    def _receipt(self, extract: Extract, name: str, load_id: str) -> Receipt:
        return Receipt(
            dataset=self.table.dataset,
            window=name,
            ledger=extract.ledger,
            location=self.table.uri,
            load_id=load_id,
            contract_version=self.contract_version,
            fingerprint=extract.fingerprint,
            sources=extract.sources,
            cursor=extract.cursor,
        )

    def _nothing_new(self, head: StreamHead, offsets: Offsets) -> Receipt:
        from tallyclerk.sinks.lake_stream import range_name

        if head.newest is not None:
            return head.newest.as_repeated()
        return Receipt(
            dataset=self.table.dataset,
            window=range_name(offsets),
            ledger=Ledger(),
            location=self.table.uri,
            cursor={OFFSETS_KEY: offsets.as_dict()},
            repeated=True,
        )
