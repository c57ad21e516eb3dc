"""One load of a small table, and a process that kills itself in the middle of one.

Run as a program: ``lake_load.py '{"uri": ..., "rows": ..., "rejects": ..., "fingerprint": ..., "stop": ...}'``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.sinks import lake_files
from tallyclerk.sinks.lake_table import LakeTable
from tallyclerk.sinks.quarantine import Quarantine, quarantine_schema

SCHEMA = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), ("amount", pa.decimal128(12, 2)), ("note", pa.string())]
)
DAY = "2026-03-01"
Rows = Sequence[Sequence[Any]]


def spool(rows: Rows, directory: Path) -> SpooledFile:
    path = directory / f"{uuid4().hex}.parquet"
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    arrays = [
        pa.array([int(value) for value in columns[0]], pa.int64()),
        pa.array([str(value) for value in columns[1]], pa.string()).cast(pa.decimal128(12, 2)),
        pa.array(list(columns[2]), pa.string()),
    ]
    pq.write_table(pa.table(arrays, schema=SCHEMA), path, compression="none", use_dictionary=False)
    return SpooledFile(path, len(rows))


def spool_rejects(count: int, directory: Path) -> SpooledFile | None:
    if not count:
        return None
    path = directory / f"{uuid4().hex}.parquet"
    values = {
        "dataset": "sales",
        "window": DAY,
        "column": "id",
        "reason": "type",
        "raw_text": "x",
        "source": "file:///x",
    }
    rows = [{**values, "record_number": number, "rejected_at": datetime.now(UTC)} for number in range(1, count + 1)]
    pq.write_table(pa.Table.from_pylist(rows, schema=quarantine_schema()), path)
    return SpooledFile(path, count)


def load(
    uri: str,
    rows: Rows,
    *,
    rejects: int = 0,
    fingerprint: str = "",
    day: str = DAY,
    stop: str = "",
    former: str | None = None,
) -> Receipt:
    """Quarantine, then the rows, as every lake load does it. ``stop`` kills the process at that point."""
    window = Window.of_day(day)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        files = (spool(rows, directory),)
        receipt = Receipt(
            dataset="sales",
            window=window.key,
            ledger=Ledger(read=len(rows) + rejects, written=len(rows), rejected=rejects),
            location=uri,
            load_id=uuid4().hex,
            fingerprint=fingerprint,
        )
        table = LakeTable(f"{uri}/rows", dataset="sales", schema=SCHEMA)
        Quarantine(f"{uri}/quarantine", dataset="sales").replace_window(
            window, spool_rejects(rejects, directory), receipt
        )
        if stop == "after quarantine":
            die()
        if stop == "after staging":
            LakeTable._commit = die
        if stop == "after commit":
            LakeTable._committed = die
        if stop == "in mid upload":
            lake_files.PIECE_BYTES = 1000
            files = (SpooledFile(DyingPath(files[0].path), len(rows)),)  # type: ignore[arg-type]
        return table.replace_window(window, files, receipt, former=former)


def die(*_: Any, **__: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingPath:
    """A spooled file whose reader dies by its third piece."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def stat(self) -> os.stat_result:
        return self._path.stat()

    def open(self, mode: str) -> DyingPath:
        self._file, self._reads = self._path.open(mode), 0
        return self

    def __enter__(self) -> DyingPath:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        self._reads += 1
        if self._reads == 3:
            die()
        return self._file.read(size)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(load(asked.pop("uri"), asked.pop("rows"), **asked).as_json())
