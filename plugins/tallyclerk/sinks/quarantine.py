"""Where rejected records are kept until they are mended and replayed (promise P5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import Offsets
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.exceptions import ConcurrentLoadError
from tallyclerk.sinks.lake_stream import LakeStream, StreamHead
from tallyclerk.sinks.lake_table import COMMIT_ATTEMPTS, PARTITION_COLUMNS, LakeTable, window_rows

if TYPE_CHECKING:
    import pyarrow as pa


@cache
def quarantine_schema() -> pa.Schema:
    """One row per broken promise of a record: a record with two bad columns has two rows."""
    import pyarrow as pa

    return pa.schema(
        [
            ("dataset", pa.string()),
            ("window", pa.string()),
            ("load_id", pa.string()),
            ("source", pa.string()),
            ("record_number", pa.int64()),
            ("line_number", pa.int64()),
            ("column", pa.string()),
            ("reason", pa.string()),
            ("detail", pa.string()),
            ("raw_text", pa.string()),
            ("contract_version", pa.string()),
            ("rejected_at", pa.timestamp("us", tz="UTC")),
        ]
    )


def finding_of(row: Mapping[str, Any]) -> str:
    """What a row of quarantine says is wrong, for people."""
    return f"{row['column']} {row['reason']}: {row['detail']}".strip()


class Quarantine:
    """The quarantine of one data set: a Delta table beside the lake's zones, replaced window by window, or range by range."""

    def __init__(self, uri: str, *, dataset: str) -> None:
        self._table = LakeTable(uri, dataset=f"{dataset}.quarantine", schema=quarantine_schema())

    @property
    def uri(self) -> str:
        return self._table.uri

    def of_window(self, window: Window) -> tuple[list[dict[str, Any]], Receipt | None]:
        """The window's quarantined records, and the receipt of the load that put them there."""
        table = self._table.open()
        return ([], None) if table is None else (window_rows(table, window), self._table.receipt(window))

    def replace_window(self, window: Window, rejects: SpooledFile | None, receipt: Receipt) -> str:
        """Make ``rejects`` the window's only quarantined records; called before the rows are committed.

        :returns: the table's URI, or "" when nothing was ever quarantined for this window.
        """
        if rejects is None:
            former = self._table.receipt(window)
            if former is None or not former.ledger.written:
                return ""
        rows = rejects.rows if rejects else 0
        self._table.replace_window(
            window,
            (rejects,) if rejects else (),
            replace(
                receipt,
                dataset=f"{receipt.dataset}.quarantine",
                ledger=Ledger(read=rows, written=rows),
                fingerprint="",
            ),
        )
        return self.uri

    def replace_range(
        self, offsets: Offsets, topic_uri: str, rejects: Sequence[SpooledFile], receipt: Receipt, directory: Path
    ) -> str:
        """Make ``rejects`` the only quarantined messages of a range; called before its rows are committed.

        Appends, unless an attempt that died left something of the range, or it was loaded before: then the files that hold it
        are written anew, without it. A table takes ranges or windows, not both.

        :param topic_uri: ``kafka://<broker>/<topic>``, with which the sources of its messages begin.
        :param rejects: of one day each. :param directory: for files that are written anew.
        :returns: the table's URI, or "" when nothing was ever quarantined there.
        :raises ConcurrentLoadError: others kept committing to it; retry.
        """
        if not rejects and self._table.open() is None:
            return ""
        stream = LakeStream(
            self._table.uri, dataset=self._table.dataset, schema=quarantine_schema(), topic=offsets.topic
        )
        for attempt in range(1, COMMIT_ATTEMPTS + 1):
            head = stream.head()
            stale = self._stale(head, offsets, topic_uri) if self._reaches_into(head, offsets) else {}
            if not rejects and not stale:
                break
            kept = [file for path, rows in stale.items() for file in _spooled(path, rows, directory)]
            written = sum(file.rows for file in rejects)
            own = replace(
                receipt, dataset=self._table.dataset, ledger=Ledger(read=written, written=written), fingerprint=""
            )
            try:
                stream.exchange(head, [*rejects, *kept], own, stream.remove_actions(head, list(stale)))
                break
            except ConcurrentLoadError:
                if attempt == COMMIT_ATTEMPTS:
                    raise
        return self.uri

    @staticmethod
    def _reaches_into(head: StreamHead, offsets: Offsets) -> bool:
        """Whether something of the range may be there already."""
        return any(start < head.position.get(partition, 0) for partition, start, _ in offsets)

    @staticmethod
    def _stale(head: StreamHead, offsets: Offsets, topic_uri: str) -> dict[str, pa.Table]:
        """The files that hold messages of the range: path → the rows to keep of it."""
        import pyarrow.compute as pc

        found = {}
        for fragment in head.table.to_pyarrow_dataset().get_fragments():
            rows = fragment.to_table(columns=quarantine_schema().names)
            inside = None
            for partition, start, end in offsets:
                own = pc.and_(
                    pc.equal(rows["source"], f"{topic_uri}/{partition}"),
                    pc.and_(pc.greater_equal(rows["record_number"], start), pc.less(rows["record_number"], end)),
                )
                inside = own if inside is None else pc.or_(inside, own)
            if inside is not None and pc.any(inside).as_py():
                found[fragment.path.lstrip("/")] = rows.filter(pc.invert(inside))
        return found


def _spooled(path: str, rows: pa.Table, directory: Path) -> Iterator[SpooledFile]:
    """What is kept of a file, to be written into the same day again."""
    import pyarrow.parquet as pq

    if rows.num_rows:
        target = directory / f"kept-{path.rpartition('/')[2]}"
        pq.write_table(rows, target, compression="zstd")
        values = dict(step.split("=") for step in path.split("/")[:-1])
        yield SpooledFile(target, rows.num_rows, date(*(int(values[name]) for name in PARTITION_COLUMNS)))
