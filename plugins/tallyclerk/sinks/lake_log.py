"""The end of a table's log, looked up again and again by who only wants to know whether it has grown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tallyclerk.sinks.lake_files import LakeFiles, reaching
from tallyclerk.sinks.lake_table import receipts_of

if TYPE_CHECKING:
    from tallyclerk.core.receipt import Receipt

_Found = TypeVar("_Found")
_LOOKED_AT = 10
"""Commits among which a receipt is looked for: maintenance signs none."""


@dataclass(frozen=True, slots=True)
class LogEnd:
    """The newest commit of a table.

    :param version: the table's.
    :param written_at: when its log entry was written, in ms: a table that was made anew has another one of the same version.
    :param receipt: the newest one; None where the last commits have none.
    """

    version: int
    written_at: int
    receipt: Receipt | None


class LakeLog:
    """A table's log, read anew only when it has grown: to ask again costs two requests, however long it is.

    May be used by several threads.

    :param uri: of the table.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._files, self._lock = LakeFiles(uri), threading.Lock()
        self._end: LogEnd | None = None

    def end(self) -> LogEnd | None:
        """The newest commit; None where there is no table.

        :raises ServiceUnavailableError: the lake is away.
        """
        with self._lock:
            held = self._end
            if (
                held is None
                or self._written_at(held.version) != held.written_at
                or self._written_at(held.version + 1) is not None
            ):
                self._end = self.look(self._read)
            return self._end

    def look(self, read: Callable[[], _Found]) -> _Found | None:
        """What ``read`` finds in the table; None where there is no table, or it is deleted while it is read.

        :raises ServiceUnavailableError: the lake is away, or has lost a file.
        """
        from deltalake.exceptions import DeltaError, TableNotFoundError

        with reaching(self.uri):
            try:
                return read()
            except TableNotFoundError:
                return None
            except (OSError, DeltaError):  # a file that is not there is either, by how it was to be read
                if self._files.written_at("_delta_log") is None:
                    return None
                raise

    def _read(self) -> LogEnd | None:
        from deltalake import DeltaTable

        version = DeltaTable(self.uri).version()
        # a commit that comes in between is told next time
        receipts = [each for each in receipts_of(self.uri, limit=_LOOKED_AT) if each.version <= version]
        written_at = self._written_at(version)
        return None if written_at is None else LogEnd(version, written_at, receipts[0] if receipts else None)

    def _written_at(self, version: int) -> int | None:
        return self._files.written_at(f"_delta_log/{version:020d}.json")
