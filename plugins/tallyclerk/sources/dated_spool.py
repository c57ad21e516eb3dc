"""Rows of several days on their way to disk, each day in files of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tallyclerk.core.extract import SpooledFile
from tallyclerk.sources.database_spool import ParquetSpool

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_OPEN_DAYS = 4
_ROW_GROUP_BYTES = 32 << 20
_ENDLESS = 1 << 60
_MS_PER_DAY = 86_400_000
_EPOCH = date(1970, 1, 1)


class DatedSpool:
    """Writes rows to Parquet. A context manager, as :class:`~tallyclerk.sources.database_spool.ParquetSpool`.

    A stream's days come nearly in order: few are open at a time, the one that was longest without rows is closed for another.

    :param by_day: False: all rows in the same files, which then name no day.
    :param rolls: over to a new file when one is large.
    """

    def __init__(
        self,
        directory: Path,
        prefix: str,
        schema: pa.Schema,
        *,
        by_day: bool,
        dictionary: Sequence[str] = (),
        rolls: bool = True,
    ) -> None:
        self._directory, self._prefix, self._schema, self._by_day = directory, prefix, schema, by_day
        self._dictionary = dictionary
        self._limits = {} if rolls else {"target_file_rows": _ENDLESS, "target_file_bytes": _ENDLESS}
        self._open: dict[date | None, ParquetSpool] = {}
        self._files: list[SpooledFile] = []
        self._opened = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for spool in self._open.values():
            spool.__exit__(kind, error, traceback)

    def add(self, rows: pa.RecordBatch, timestamps: npt.NDArray[np.int64]) -> None:
        """:param timestamps: of each row, milliseconds since 1970."""
        import numpy as np
        import pyarrow as pa

        if not self._by_day or not rows.num_rows:
            self._spool(None).add(rows)
            return
        days = timestamps // _MS_PER_DAY
        for day in np.unique(days):
            own = rows if days[0] == day and (days == day).all() else rows.filter(pa.array(days == day))
            self._spool(_EPOCH + timedelta(days=int(day))).add(own)

    def finish(self) -> tuple[SpooledFile, ...]:
        """Complete files, with their days."""
        for day in list(self._open):
            self._close(day)
        return tuple(self._files)

    def _spool(self, day: date | None) -> ParquetSpool:
        spool = self._open.pop(day, None)
        if spool is None:
            if len(self._open) >= _OPEN_DAYS:
                self._close(next(iter(self._open)))
            self._opened += 1
            spool = ParquetSpool(
                self._directory,
                f"{self._prefix}-{self._opened:05d}",
                self._schema,
                dictionary=self._dictionary,
                row_group_bytes=_ROW_GROUP_BYTES,
                **self._limits,
            )
        self._open[day] = spool  # the last used one stands last
        return spool

    def _close(self, day: date | None) -> None:
        self._files += [replace(file, day=day) for file in self._open[day].finish()]
        del self._open[day]
