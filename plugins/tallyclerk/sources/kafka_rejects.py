"""Rejected messages, in the quarantine's schema, with their bytes."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tallyclerk.sources.dated_spool import DatedSpool

if TYPE_CHECKING:
    from tallyclerk.sources.kafka_batches import MessageBatch
    from tallyclerk.sources.message_findings import Finding

RAW_MARK = "base64:"
"""Before the bytes of a message in ``raw_text``: they may be no text at all."""
_SLICE_ROWS = 1_000
_EXAMPLES = 5


@dataclass(slots=True)
class MessageRejects:
    """Spools one row per message, column and reason, and counts the messages.

    ``source`` is ``kafka://<broker>/<topic>/<partition>``, ``record_number`` the offset.

    :param common: the quarantine's fields that all messages of the load share.
    """

    spool: DatedSpool
    topic_uri: str
    common: dict[str, Any]
    messages: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    rejected_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def add(self, batch: MessageBatch, findings: Sequence[Finding]) -> None:
        """:param findings: over the batch's messages."""
        import numpy as np
        import pyarrow as pa

        from tallyclerk.sinks.quarantine import quarantine_schema

        if not findings:
            return
        self.messages += len(np.unique(np.concatenate([finding.rows for finding in findings])))
        for finding in findings:
            self.counts[finding.column, finding.reason] += len(finding.rows)
            for start in range(0, len(finding.rows), _SLICE_ROWS):
                rows = finding.rows[start : start + _SLICE_ROWS]
                told = [self._row(batch, finding, int(row)) for row in rows]
                self.spool.add(pa.RecordBatch.from_pylist(told, schema=quarantine_schema()), batch.timestamps[rows])
                for row in told[: _EXAMPLES - len(self.examples)]:
                    place = f"{row['source']} offset {row['record_number']}"
                    self.examples.append(f"{place}: {row['column']} {row['reason']}: {row['detail']}")

    def _row(self, batch: MessageBatch, finding: Finding, row: int) -> dict[str, Any]:
        value = batch.values[row]
        return {
            **self.common,
            "source": f"{self.topic_uri}/{batch.partitions[row]}",
            "record_number": int(batch.offsets[row]),
            "column": finding.column,
            "reason": finding.reason,
            "detail": finding.detail,
            "raw_text": None if value is None else RAW_MARK + base64.b64encode(value).decode("ascii"),
            "rejected_at": self.rejected_at,
        }
