"""Rejected rows of a database read, in the quarantine's schema."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tallyclerk.sources.database_decode import DecodedBatch
from tallyclerk.sources.database_spool import ParquetSpool

if TYPE_CHECKING:
    import pyarrow as pa

_SLICE_ROWS = 1000
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Provenance:
    """What every rejected row of one load has in common; the fields of the quarantine."""

    dataset: str
    window: str
    source: str
    load_id: str = ""
    contract_version: str = ""
    rejected_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class RejectLog:
    """Counts rejects by column and reason, and spools one row per (record, column, reason).

    ``record_number`` is the row's position in this read, from 1: a table has no order of its own, so only ``raw_text`` (the
    row as a JSON object of PostgreSQL's texts) finds it again.
    """

    spool: ParquetSpool
    provenance: Provenance
    records: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    nulled: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def add(self, decoded: DecodedBatch, first_record: int) -> None:
        """:param first_record: position of the batch's first row in the read."""
        self.nulled.update(decoded.nulled)
        self.records += len(decoded.rejected)
        for finding in decoded.findings:
            self.counts[finding.column, finding.reason] += len(finding.rows)
            for start in range(0, len(finding.rows), _SLICE_ROWS):
                rows = [int(row) for row in finding.rows[start : start + _SLICE_ROWS]]
                texts = [decoded.text(row) for row in rows]
                self.spool.add(self._batch(finding.column, finding.reason, finding.detail, rows, texts, first_record))
                for text in texts[: _EXAMPLES - len(self.examples)]:
                    self.examples.append(f"{finding.column} = {text[finding.column]} ({finding.detail})")

    def summary(self, reason: str | None = None) -> str:
        """``column: n (reason)`` for all that was counted."""
        return ", ".join(
            f"{column}: {count:,} ({why})"
            for (column, why), count in sorted(self.counts.items())
            if reason in (None, why)
        )

    def _batch(
        self,
        column: str,
        reason: str,
        detail: str,
        rows: list[int],
        texts: list[dict[str, str | None]],
        first_record: int,
    ) -> pa.RecordBatch:
        import pyarrow as pa

        common = {
            "dataset": self.provenance.dataset,
            "window": self.provenance.window,
            "load_id": self.provenance.load_id,
            "source": self.provenance.source,
            "column": column,
            "reason": reason,
            "detail": detail,
            "contract_version": self.provenance.contract_version,
            "rejected_at": self.provenance.rejected_at,
        }
        return pa.RecordBatch.from_pylist(
            [
                {**common, "record_number": first_record + row, "raw_text": json.dumps(text, ensure_ascii=False)}
                for row, text in zip(rows, texts, strict=True)
            ],
            schema=rejects_schema(),
        )


def rejects_schema() -> pa.Schema:
    """The quarantine's own schema."""
    from tallyclerk.sinks.quarantine import quarantine_schema

    return quarantine_schema()
