"""What a comparison has found, as a day of a lake's table: its rows in one commit with the account of all that was compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.transfers.base import spool_directory

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.core.window import Window
    from tallyclerk.sinks.lake_table import LakeTable


def replace_drift(
    table: LakeTable, window: Window, rows: pa.Table, *, read: int, fingerprint: str, contract_version: str,
    sources: Sequence[dict[str, Any]], details: dict[str, Any],
) -> Receipt:  # fmt: skip
    """Make ``rows`` the window's, also where there are none; guarantee as :meth:`LakeTable.replace_window`'s.

    :param read: what was compared; of it, ``rows`` differ (the ledger's written) and the others agree (its filtered).
    :param fingerprint: of all that was compared.
    :return: ``repeated`` when this very comparison is there already.
    """
    import pyarrow.parquet as pq

    former = table.receipt(window)
    if former is not None and former.fingerprint == fingerprint:
        return former.as_repeated()
    receipt = Receipt(
        dataset=table.dataset,
        window=window.key,
        ledger=Ledger(read=read, written=len(rows), filtered=read - len(rows)).check(
            load=load_name(table.dataset, window)
        ),
        location=table.uri,
        load_id=uuid4().hex,
        contract_version=contract_version,
        fingerprint=fingerprint,
        sources=tuple(sources),
        details=details,
    )
    with spool_directory() as directory:
        path = directory / "drift.parquet"
        pq.write_table(rows, path, compression="zstd")
        return table.replace_window(window, (SpooledFile(path, len(rows)),), receipt)
