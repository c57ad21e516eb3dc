"""Rejected records of CSV files on their way to quarantine."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tallyclerk.core.extract import SpooledFile

if TYPE_CHECKING:
    import duckdb

_REASONS = {
    "MISSING COLUMNS": "columns",
    "TOO MANY COLUMNS": "columns",
    "UNQUOTED VALUE": "quote",
    "LINE SIZE OVER MAXIMUM": "line_size",
    "INVALID ENCODING": "encoding",
    "INVALID STATE": "quote",
}


@dataclass(frozen=True, slots=True)
class Reject:
    """One broken promise of one record."""

    record_number: int
    line_number: int
    column: str
    reason: str
    detail: str
    raw_text: str


def structural_rejects(
    connection: duckdb.DuckDBPyConnection, *, header_lines: int, blank: Sequence[int] = ()
) -> list[Reject]:
    """What the reader itself could not read, one entry per line (its first error).

    The reader numbers blank lines too, and may start a record with them. ``blank`` has their positions in bytes, so
    that they are not numbered as records; exact where no value before the record holds a blank line.
    The tables are complete only once the reading query's result is drained.
    """
    rows = connection.execute(
        "SELECT line, arg_min(error_type::VARCHAR, byte_position), arg_min(coalesce(column_name, ''), byte_position), "
        "arg_min(error_message, byte_position), any_value(csv_line), min(line_byte_position) FROM reject_errors GROUP BY line ORDER BY line"
    ).fetchall()
    return [
        Reject(
            record_number=line - header_lines - bisect_left(blank, begin - 1 + _leading_newlines(text or "")),
            line_number=line,
            column=column,
            reason=_REASONS.get(kind, kind.lower()),
            detail=(message or "").strip().splitlines()[0] if message else kind,
            # the reader hands over blank lines before the record as well
            raw_text=(text or "").strip("\r\n"),
        )
        for line, kind, column, message, text, begin in rows
    ]


def _leading_newlines(text: str) -> int:
    return len(text) - len(text.lstrip("\r\n"))


def forget_rejects(connection: duckdb.DuckDBPyConnection) -> None:
    """Empty the reader's tables, so that the next reading starts with none."""
    for table in ("reject_errors", "reject_scans"):
        connection.execute(f"DROP TABLE IF EXISTS {table}")


def misfit_rejects(
    rows: list[tuple[int, str, list[dict[str, str]]]], structural: list[Reject], *, header_lines: int
) -> list[Reject]:
    """Records that were read but do not fit; their ordinals skip the structural ones, which are put back here.

    Exact where no value before the record holds a newline; the line number assumes one line per record.
    """
    skipped = [reject.record_number for reject in structural]
    before = [number - index - 1 for index, number in enumerate(skipped)]
    found = []
    for ordinal, raw_text, problems in rows:
        number = ordinal + bisect_right(before, ordinal - 1)
        found += [
            Reject(
                record_number=number,
                line_number=number + header_lines,
                column=problem["column"],
                reason=problem["reason"],
                detail=problem["detail"],
                raw_text=raw_text,
            )
            for problem in problems
        ]
    return found


def spool_rejects(
    rejects: list[tuple[str, Reject]], path: Path, *, dataset: str, window: str, load_id: str, contract_version: str
) -> SpooledFile | None:
    """Write the rejects of all files as one Parquet file in the quarantine's schema; None when there are none."""
    if not rejects:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tallyclerk.sinks.quarantine import quarantine_schema

    now = datetime.now(UTC)
    rows = [
        {
            "dataset": dataset,
            "window": window,
            "load_id": load_id,
            "source": source,
            "record_number": reject.record_number,
            "line_number": reject.line_number,
            "column": reject.column,
            "reason": reject.reason,
            "detail": reject.detail,
            "raw_text": reject.raw_text,
            "contract_version": contract_version,
            "rejected_at": now,
        }
        for source, reject in rejects
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=quarantine_schema()), path, compression="zstd")
    return SpooledFile(path, len(rows))
