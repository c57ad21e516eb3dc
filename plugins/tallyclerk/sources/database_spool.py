"""Writes a load's rows and rejects to Parquet on local disk, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tallyclerk.core.extract import SpooledFile

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class ParquetSpool:
    """Rolls over to a new file when one has its rows or bytes; holds at most one row group of Arrow data.

    A context manager: leaving it closes the open file, also after an error. :meth:`finish` yields complete files only.

    :param dictionary: columns worth a dictionary; a unique column only pays for one.
    :param row_group_bytes: Arrow bytes that are gathered before they are written.
    """

    def __init__(
        self,
        directory: Path,
        prefix: str,
        schema: pa.Schema,
        *,
        dictionary: Sequence[str] = (),
        row_group_bytes: int = 64 << 20,
        target_file_rows: int = 5_000_000,
        target_file_bytes: int = 256 << 20,
    ) -> None:
        self._directory, self._prefix, self._schema = directory, prefix, schema
        self._dictionary = list(dictionary)
        self._row_group_bytes = row_group_bytes
        self._target_rows, self._target_bytes = target_file_rows, target_file_bytes
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_bytes = self._file_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._files: list[SpooledFile] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def add(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows == 0:
            return
        self._waiting.append(batch)
        self._waiting_bytes += batch.nbytes
        if self._waiting_bytes >= self._row_group_bytes:
            self._write_row_group()

    def finish(self) -> tuple[SpooledFile, ...]:
        """Write what waits and return the files; each row count is read back from the file's footer."""
        import pyarrow.parquet as pq

        self._write_row_group()
        self._close_file()
        return tuple(SpooledFile(file.path, pq.read_metadata(file.path).num_rows) for file in self._files)

    def _write_row_group(self) -> None:
        import pyarrow as pa

        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._waiting, self._waiting_bytes = [], 0
        if self._writer is None:
            self._open_file()
        assert self._writer is not None
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._file_rows += table.num_rows
        if self._file_rows >= self._target_rows or self._path.stat().st_size >= self._target_bytes:
            self._close_file()

    @property
    def _path(self) -> Path:
        return self._directory / f"{self._prefix}-{len(self._files):05d}.parquet"

    def _open_file(self) -> None:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(
            self._path, self._schema, compression="zstd", compression_level=1, use_dictionary=self._dictionary or False
        )

    def _close_file(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        self._files.append(SpooledFile(self._path, self._file_rows))
        self._file_rows = 0
