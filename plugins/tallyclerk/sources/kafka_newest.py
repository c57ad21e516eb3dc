"""The newest value of each key in a range of a topic, in pieces that fit into memory.

A key's messages are all in one partition, so that their offsets order them. The pieces of a range are in that order too: what
an earlier piece says of a key is older than what a later one says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import Offsets
from tallyclerk.exceptions import RecordError, TooManyRejectsError
from tallyclerk.sources.dated_spool import DatedSpool
from tallyclerk.sources.kafka_rejects import MessageRejects
from tallyclerk.sources.message_findings import Finding
from tallyclerk.sources.message_rules import RowRules, judged

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from tallyclerk.core.extract import SpooledFile
    from tallyclerk.sources.kafka_batches import MessageBatch
    from tallyclerk.sources.kafka_decoding import MessageDecoder
    from tallyclerk.sources.kafka_range import KafkaRange
    from tallyclerk.sources.message_keys import MessageKeys

OFFSET_COLUMN = "_offset"
_PARTITION, _PLACE, _REMOVED = "_partition", "_place", "_removed"
_FEW_REJECTS = 10
"""So many bad messages of a piece are no sign yet that all are bad, whatever their share: a poll may find three messages."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What a part of a range leaves to write.

    :param offsets: the part.
    :param rows: the newest row of each key, and its offset in :data:`OFFSET_COLUMN`.
    :param removed: the keys whose newest message is a tombstone, likewise.
    :param ledger: ``written`` are both of these, ``deduplicated`` the messages with a newer one of their key beside them.
    :param timestamps: of all good messages, milliseconds since 1970.
    :param rejects: files in the quarantine's schema, one or more a day of the messages.
    """

    offsets: Offsets
    rows: pa.Table
    removed: pa.Table
    ledger: Ledger
    timestamps: npt.NDArray[np.int64]
    rejects: tuple[SpooledFile, ...]


@dataclass(frozen=True, kw_only=True)
class NewestOfKeys:
    """Ranges of one topic.

    :param reader: open, with keys.
    :param decoder: makes rows of values. :param rules: the contract's rules and derived columns; None keeps none.
    :param keys: reads the keys of tombstones; its columns are the key.
    :param load_id, contract_version: for quarantine.
    :param max_rejected_ratio: share of a piece's messages above which it fails; a few are let pass in any case.
    :param max_piece_messages, max_piece_bytes: a piece ends with the batch (of at most 20,000 messages or 16 MiB) that reaches one.
    """

    reader: KafkaRange
    decoder: MessageDecoder
    keys: MessageKeys
    rules: RowRules | None = None
    dataset: str
    contract_version: str = ""
    load_id: str = ""
    max_rejected_ratio: float = 0.1
    max_piece_messages: int = 100_000
    max_piece_bytes: int = 64 << 20

    def pieces(self, offsets: Offsets, directory: Path) -> Iterator[Piece]:
        """The range's pieces, in order; one without messages where the range has none, since it too is to be passed.

        :param directory: for rejects; the caller's to delete.
        :raises TooManyRejectsError: by ``max_rejected_ratio``, or by a rule that lets no load pass.
        :raises RecordError: a key has messages in two partitions.
        :raises OffsetsDeletedError, ServiceUnavailableError: see :meth:`KafkaRange.read`.
        """
        from tallyclerk.sinks.lake_stream import range_name

        position = {partition: start for partition, (start, _) in offsets.ranges.items()}
        with ExitStack() as stack:
            stack.enter_context(self.rules or nullcontext())
            batches = stack.enter_context(closing(self.reader.read(offsets)))  # type: ignore[type-var]
            for number, (group, is_last) in enumerate(self._groups(batches)):
                ends = offsets.ends() if is_last else _ends(group, position)
                part = Offsets(offsets.topic, {each: (position[each], ends[each]) for each in position})
                position = ends
                with DatedSpool(directory, f"rejects-{number:05d}", _quarantine_schema(), by_day=True) as spool:
                    common = {
                        "dataset": self.dataset,
                        "window": range_name(part),
                        "load_id": self.load_id,
                        "contract_version": self.contract_version,
                    }
                    yield self._piece(group, part, MessageRejects(spool, self.reader.uri, common))

    def _groups(self, batches: Iterator[MessageBatch]) -> Iterator[tuple[list[MessageBatch], bool]]:
        """Batches of one piece, and whether it is the range's last."""
        group: list[MessageBatch] = []
        messages = size = 0
        for batch in batches:
            if messages >= self.max_piece_messages or size >= self.max_piece_bytes:
                yield group, False
                group, messages, size = [], 0, 0
            group.append(batch)
            messages += len(batch.values)
            size += sum(map(len, filter(None, batch.values)))
        yield group, True

    def _piece(self, group: Sequence[MessageBatch], offsets: Offsets, rejects: MessageRejects) -> Piece:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        tables, timestamps, read = [self._schema().empty_table()], [np.zeros(0, np.int64)], 0
        for batch in group:
            table, good = self._decoded(batch, rejects, first_place=read)
            tables.append(table)
            timestamps.append(batch.timestamps[good])
            read += len(batch.values)
        decoded = pa.concat_tables(tables)
        newest = self._newest(decoded, read)
        is_removed = newest.column(_REMOVED)
        rows = newest.filter(pc.invert(is_removed)).drop_columns([_PARTITION, _PLACE, _REMOVED])
        removed = newest.filter(is_removed).select([*self.keys.target.names, OFFSET_COLUMN])
        ledger = Ledger(
            read=read,
            written=len(newest),
            rejected=rejects.messages,
            deduplicated=len(decoded) - len(newest),
        )
        self._check(ledger, rejects)
        return Piece(offsets, rows, removed, ledger, np.concatenate(timestamps), rejects.spool.finish())

    def _decoded(self, batch: MessageBatch, rejects: MessageRejects, *, first_place: int) -> tuple[pa.Table, Any]:
        """The good messages in :meth:`_schema`, and where they stand in the batch."""
        import numpy as np
        import pyarrow as pa

        absent = np.fromiter((value is None for value in batch.values), np.bool_, len(batch.values))
        held, dead = np.flatnonzero(~absent), np.flatnonzero(absent)
        values = [value for value in batch.values if value is not None]
        rows, kept, findings = judged(self.decoder, self.rules, values, held)
        keys, gone = self.keys.decode([batch.keys[place] or b"" for place in dead]), np.zeros(0, np.int64)
        if len(dead):
            gone = dead[keys.kept]
            findings += tuple(_unreadable_key(batch, place) for place in np.setdiff1d(dead, gone))
        rejects.add(batch, findings)
        parts = []
        for found, places, removed in ((rows, kept, False), (keys.rows, gone, True)):
            own = {name: found.column(name) for name in found.schema.names}
            own |= {
                _PARTITION: pa.array(batch.partitions[places]),
                OFFSET_COLUMN: pa.array(batch.offsets[places]),
                _PLACE: pa.array(first_place + places),
                _REMOVED: pa.repeat(removed, len(places)),
            }
            columns = [own.get(field.name, pa.nulls(len(places), field.type)) for field in self._schema()]
            parts.append(pa.table(columns, schema=self._schema()))
        return pa.concat_tables(parts), np.concatenate([kept, gone])

    def _newest(self, decoded: pa.Table, places: int) -> pa.Table:
        """The last row of each key.

        :raises RecordError: a key whose rows are of two partitions.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        names = self.keys.target.names
        groups = decoded.group_by(names).aggregate([(_PLACE, "max"), (_PARTITION, "min_max")])
        spans = groups.column(f"{_PARTITION}_min_max").combine_chunks()
        torn = pc.not_equal(pc.struct_field(spans, "min"), pc.struct_field(spans, "max"))
        if pc.any(torn, min_count=0).as_py():
            key = groups.select(names).filter(torn).slice(0, 1).to_pylist()[0]
            raise RecordError(
                f"{self.reader.topic}: the key {key} has messages in more than one partition, so that their offsets do not say "
                "which is the newest. Nothing of these was written. Let the producer partition by the contract's kafka key."
            )
        is_newest = np.zeros(places, np.bool_)
        is_newest[groups.column(f"{_PLACE}_max").to_numpy()] = True
        return decoded.filter(pa.array(is_newest[decoded.column(_PLACE).to_numpy()]))

    def _schema(self) -> pa.Schema:
        """The rows' columns, which a tombstone does not have, and what orders them."""
        import pyarrow as pa

        own = self.decoder.target if self.rules is None else self.rules.schema
        told = [(_PARTITION, pa.int32()), (OFFSET_COLUMN, pa.int64()), (_PLACE, pa.int64()), (_REMOVED, pa.bool_())]
        return pa.schema([*(field.with_nullable(True) for field in own), *(pa.field(*each) for each in told)])

    def _check(self, ledger: Ledger, rejects: MessageRejects) -> None:
        failing = self.rules.failing if self.rules else frozenset()
        limit = ""
        if any(reason in failing for _, reason in rejects.counts):
            limit = "the contract says that a broken rule fails the load"
        elif ledger.rejected > max(self.max_rejected_ratio * ledger.read, _FEW_REJECTS):
            limit = f"max_rejected_ratio allows {self.max_rejected_ratio:.2%}"
        if limit:
            raise TooManyRejectsError(
                rejected=ledger.rejected, read=ledger.read, limit=limit, examples=rejects.examples
            )


def _ends(group: Sequence[MessageBatch], position: dict[int, int]) -> dict[int, int]:
    """Partition → the offset behind the group's last message."""
    import numpy as np

    ends = dict(position)
    for batch in group:
        for partition in np.unique(batch.partitions):
            ends[int(partition)] = int(batch.offsets[batch.partitions == partition].max()) + 1
    return ends


def _unreadable_key(batch: MessageBatch, place: int) -> Finding:
    import numpy as np

    shown = repr(batch.keys[place])[:200]
    return Finding("", "key", f"is a tombstone whose key {shown} is not one of the contract's", np.array([place]))


def _quarantine_schema() -> pa.Schema:
    from tallyclerk.sinks.quarantine import quarantine_schema

    return quarantine_schema()
