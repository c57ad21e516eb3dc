"""A range of a topic, read as rows of a contract with every message accounted for."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.progress import Progress
from tallyclerk.core.window import Window
from tallyclerk.exceptions import ReconcileError, SpecError, TooManyRejectsError
from tallyclerk.sources.dated_spool import DatedSpool
from tallyclerk.sources.kafka_batches import MessageBatch
from tallyclerk.sources.kafka_range import KafkaRange
from tallyclerk.sources.kafka_rejects import MessageRejects
from tallyclerk.sources.message_findings import Finding
from tallyclerk.sources.message_rules import RowRules, judged

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.sources.kafka_decoding import MessageDecoder

log = logging.getLogger(__name__)

Tombstones = Literal["filter", "reject"]

METADATA_COLUMNS = ("_topic", "_partition", "_offset", "_timestamp")
"""What a message says beside its value; ``_timestamp`` is the message's, not the event's."""


@dataclass(frozen=True, kw_only=True)
class KafkaMessages:
    """One range of a topic.

    :param reader: open.
    :param decoder: makes rows of values.
    :param rules: the contract's rules and derived columns, over the decoder's rows; None where there are none to keep.
    :param by_day: divide rows and rejects by the UTC day of their messages; else they are the window's.
    :param metadata: some of :data:`METADATA_COLUMNS`, which stand after the row's own columns.
    :param tombstones: whether a message without a value is left out (and counted as filtered) or rejected.
    :param max_rejected_ratio: share of the messages above which the load fails.
    :param expected_messages: how many messages the writer of the range counted, None when nobody did.
    :param decides: what else decides the result, for the fingerprint (the contract's, the options).
    """

    reader: KafkaRange
    offsets: Offsets
    decoder: MessageDecoder
    rules: RowRules | None = None
    dataset: str
    contract_version: str = ""
    load_id: str = ""
    by_day: bool = False
    metadata: Sequence[str] = ()
    tombstones: Tombstones = "filter"
    max_rejected_ratio: float = 0.1
    expected_messages: int | None = None
    decides: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self, window: Window) -> str:
        return self.fingerprint_of_range()

    def extract(self, window: Window, directory: Path) -> Extract:
        return self.extract_as(window.key, directory)

    def extract_as(self, name: str, directory: Path) -> Extract:
        """Spool the range.

        :param name: the load's, for quarantine: its window's key, or the range's.
        :raises ReconcileError: the range does not hold as many messages as its writer counted.
        :raises TooManyRejectsError: by ``max_rejected_ratio``, or by a rule that lets no load pass.
        :raises RecordError: a rule about all rows of a window is broken.
        :raises OffsetsDeletedError, ServiceUnavailableError: see :meth:`KafkaRange.read`.
        """
        schema = row_schema(self.decoder.target if self.rules is None else self.rules.schema, self.metadata)
        counts = _Counts()
        with ExitStack() as stack:
            stack.enter_context(self.rules or nullcontext())
            rows = stack.enter_context(
                DatedSpool(directory, "rows", schema, by_day=self.by_day, dictionary=_repeating(schema))
            )
            rejects = self._rejects(name, directory, stack)
            progress = Progress(log, f"{self.offsets.topic} {name}", total=self.expected_messages or 0)
            for batch in self.reader.read(self.offsets):
                counts.messages += len(batch.values)
                counts.bytes += sum(map(len, filter(None, batch.values)))
                self._take(batch, schema, rows, rejects, counts)
                progress.add(len(batch.values))
            progress.done()
            files, quarantined = rows.finish(), rejects.spool.finish()
            ledger = Ledger(
                read=counts.messages,
                written=sum(file.rows for file in files),
                rejected=rejects.messages,
                filtered=counts.tombstones,
            )
            self._check(name, ledger, rejects)
            # a stream has no end, and rules about all rows no moment to hold
            warnings = self.rules.warnings(files) if self.rules and not self.by_day else []
        return Extract(
            schema=schema,
            files=files,
            ledger=ledger,
            rejects=quarantined[0] if quarantined and not self.by_day else None,
            dated_rejects=quarantined if self.by_day else (),
            sources=(self._facts(counts, warnings),),
            cursor={OFFSETS_KEY: self.offsets.as_dict()},
            fingerprint=self.fingerprint_of_range(),
        )

    def _rejects(self, name: str, directory: Path, stack: ExitStack) -> MessageRejects:
        from tallyclerk.sinks.quarantine import quarantine_schema

        spool = stack.enter_context(
            DatedSpool(directory, "rejects", quarantine_schema(), by_day=self.by_day, rolls=self.by_day)
        )
        common = {
            "dataset": self.dataset,
            "window": name,
            "load_id": self.load_id,
            "contract_version": self.contract_version,
        }
        return MessageRejects(spool, self.reader.uri, common)

    def _take(
        self, batch: MessageBatch, schema: pa.Schema, rows: DatedSpool, rejects: MessageRejects, counts: _Counts
    ) -> None:
        import numpy as np
        import pyarrow as pa

        places = np.arange(len(batch.values))
        findings: tuple[Finding, ...] = ()
        if None in batch.values:
            absent = np.fromiter((value is None for value in batch.values), np.bool_, len(batch.values))
            if self.tombstones == "reject":
                findings = (Finding("", "tombstone", "has no value", np.flatnonzero(absent)),)
            else:
                counts.tombstones += int(absent.sum())
            places = np.flatnonzero(~absent)
        values = [value for value in batch.values if value is not None]
        good, kept, found = judged(self.decoder, self.rules, values, places)
        findings += found
        rejects.add(batch, findings)
        told = [_metadata(name, self.offsets.topic, batch, kept) for name in self.metadata]
        rows.add(pa.RecordBatch.from_arrays([*good.columns, *told], schema=schema), batch.timestamps[kept])

    def _check(self, name: str, ledger: Ledger, rejects: MessageRejects) -> None:
        if self.expected_messages is not None and ledger.read != self.expected_messages:
            raise ReconcileError(
                f"{self.dataset}@{name}: its writer counted {self.expected_messages:,} messages, and the range "
                f"{self.offsets.as_dict()} holds {ledger.read:,}: others wrote into it, or the topic does not keep all. "
                "Nothing was committed. Send the window to Kafka again, and load it then."
            )
        if not ledger.rejected:
            return
        failing = self.rules.failing if self.rules else frozenset()
        limit = ""
        if any(reason in failing for _, reason in rejects.counts):
            limit = "the contract says that a broken rule fails the load"
        elif ledger.rejected > self.max_rejected_ratio * ledger.read:
            limit = f"max_rejected_ratio allows {self.max_rejected_ratio:.2%}"
        if limit:
            raise TooManyRejectsError(
                rejected=ledger.rejected, read=ledger.read, limit=limit, examples=rejects.examples
            )

    def fingerprint_of_range(self) -> str:
        """Digest of the range and of everything that decides its rows."""
        decides = {
            "offsets": self.offsets.as_dict(),
            "by_day": self.by_day,
            "metadata": list(self.metadata),
            "tombstones": self.tombstones,
            **self.decides,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _facts(self, counts: _Counts, warnings: Sequence[str]) -> dict[str, Any]:
        facts = {"uri": self.reader.uri, "records": counts.messages, "bytes": counts.bytes}
        return {**facts, "warnings": list(warnings)} if warnings else facts


@dataclass(slots=True)
class _Counts:
    messages: int = 0
    bytes: int = 0
    tombstones: int = 0


def row_schema(schema: pa.Schema, metadata: Sequence[str]) -> pa.Schema:
    """The rows' own columns, then the messages'.

    :raises SpecError: no column of messages, or one that the rows have too.
    """
    import pyarrow as pa

    types = {
        "_topic": pa.string(),
        "_partition": pa.int32(),
        "_offset": pa.int64(),
        "_timestamp": pa.timestamp("us", tz="UTC"),
    }
    if unknown := [name for name in metadata if name not in types]:
        raise SpecError(f"metadata_columns names {', '.join(unknown)}; there are {', '.join(types)}.")
    if twice := [name for name in metadata if name in schema.names]:
        raise SpecError(f"metadata_columns names {', '.join(twice)}, which the contract has too; leave it out.")
    return pa.schema([*schema, *(pa.field(name, types[name], nullable=False) for name in metadata)])


def _metadata(name: str, topic: str, batch: MessageBatch, kept: Any) -> pa.Array:
    import pyarrow as pa

    if name == "_topic":
        return pa.repeat(topic, len(kept))
    if name == "_timestamp":
        return pa.array(batch.timestamps[kept] * 1_000).view(pa.timestamp("us", tz="UTC"))
    return pa.array((batch.partitions if name == "_partition" else batch.offsets)[kept])


def _repeating(schema: pa.Schema) -> list[str]:
    """Columns whose values repeat for certain; a dictionary of unique values would only cost."""
    return [name for name in ("_topic", "_partition", "__op", "__deleted") if name in schema.names]
