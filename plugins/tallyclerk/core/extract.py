"""What a source hands to a sink."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class SpooledFile:
    """A Parquet file on the worker's own disk, complete and closed.

    :param day: the UTC day of its rows, where a load is of several days; None where it is of its window's.
    """

    path: Path
    rows: int
    day: date | None = None


@dataclass(frozen=True, slots=True)
class Extract:
    """A window's rows, spooled to Parquet on local disk, with the account of them.

    Spooling first is what lets a sink know the whole ledger before it commits the first row.

    :param schema: Arrow schema of the files.
    :param files: the rows to write; their counts add up to ``ledger.written``.
    :param rejects: the records for quarantine, in the quarantine's schema; their distinct (file, record) pairs
        add up to ``ledger.rejected``. None when nothing was rejected.
    :param dated_rejects: instead of ``rejects``, of a load of several days: files of one day each.
    :param sources, cursor, fingerprint, details: as in :class:`~tallyclerk.core.receipt.Receipt`.
    """

    schema: pa.Schema
    files: tuple[SpooledFile, ...]
    ledger: Ledger
    rejects: SpooledFile | None = None
    dated_rejects: tuple[SpooledFile, ...] = ()
    sources: tuple[dict[str, Any], ...] = ()
    cursor: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    details: dict[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Reads one window of one data set."""

    def fingerprint(self, window: Window) -> str:
        """Digest of everything that decides what :meth:`extract` yields, or "" when the source cannot tell
        without reading (a database). Computed without reading rows twice."""

    def extract(self, window: Window, directory: Path) -> Extract:
        """Spool the window's rows into ``directory`` (which exists and is the caller's to delete).

        :raises RecordError: the data does not fit (nothing is left behind but the spool).
        :raises TransientError: the source is away.
        """
