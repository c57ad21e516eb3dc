"""Where rejected records are kept until they are mended and replayed (promise P5)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.sinks.lake_table import LakeTable

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


class Quarantine:
    """The quarantine of one data set: a Delta table beside the lake's zones, replaced window by window."""

    def __init__(self, uri: str, *, dataset: str) -> None:
        self._table = LakeTable(uri, dataset=f"{dataset}.quarantine", schema=quarantine_schema())

    @property
    def uri(self) -> str:
        return self._table.uri

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
