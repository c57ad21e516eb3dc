"""Upkeep of a Delta table beside its loads: few large files, no files that nobody refers to, no rows past their time.

No receipt is lost: they stand in the log, which is kept (``delta.logRetentionDuration``), and which compacting adds to.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import ConcurrentLoadError, ReconcileError, SpecError
from tallyclerk.sinks.lake_files import reaching
from tallyclerk.sinks.lake_table import COMMIT_ATTEMPTS, PARTITION_COLUMNS, on_day, partition_of, receipts_of

if TYPE_CHECKING:
    from deltalake import DeltaTable

log = logging.getLogger(__name__)

VACUUM_HOURS = 168
"""For a reader that is still at an older version, and for files that a load under way has staged."""


@dataclass(frozen=True, slots=True)
class TableSize:
    """What a reader of the table's newest version opens. :param rows: counted in the files themselves."""

    files: int
    bytes: int
    rows: int


@dataclass(frozen=True, slots=True)
class LakeUpkeep:
    """Upkeep of one table. Each step is a commit of its own; a load beside it is never hurt, it at most tries once more.

    :param uri: of the table.
    """

    uri: str

    def size(self) -> TableSize:
        """:raises ServiceUnavailableError: the lake is away, or a file is not there."""
        import pyarrow as pa

        table = self._open()
        sizes = pa.table(table.get_add_actions(flatten=True))["size_bytes"].to_pylist()
        with reaching(self.uri):
            return TableSize(len(sizes), sum(sizes), table.to_pyarrow_dataset().count_rows())

    def version(self) -> int:
        """The table's newest commit."""
        return self._open().version()

    def loaded_since(self, version: int) -> bool:
        """Whether a load has committed after that version."""
        return any(receipt.version > version for receipt in receipts_of(self.uri))

    def compact(self, *, before: date, target_bytes: int, from_files: int) -> int:
        """Rewrite the days before ``before`` that have at least ``from_files`` files into files of about ``target_bytes``.

        Rows are the same after it: each day's count and hash is compared across the very commit.

        :param from_files: a day of fewer files stays, so that its files remain those that its receipt names.
        :returns: how many days were rewritten.
        :raises ConcurrentLoadError: loads of the day kept committing; retry.
        :raises ReconcileError: a day's rows are not the same; the former version is named, to be restored.
        """
        days = self._files_by_day()
        chosen = [day for day, files in sorted(days.items()) if day < before and files >= from_files]
        return sum(self._compact_day(day, target_bytes) for day in chosen)

    def drop_days(self, *, before: date) -> int:
        """Delete the rows of the days before ``before``; returns how many rows."""
        from deltalake.exceptions import CommitFailedError

        dropped = 0
        for day in sorted(found for found in self._files_by_day() if found < before):
            condition = " AND ".join(f"{name} = {value}" for name, value in partition_of(day).items())
            conflict: Exception | None = None
            for _ in range(COMMIT_ATTEMPTS):
                table = self._open()
                rows = _fingerprint(table, day)[0]
                try:
                    table.delete(condition)
                except CommitFailedError as faster:
                    conflict = faster
                    continue
                dropped += rows
                break
            else:
                raise ConcurrentLoadError(load=f"{self.uri} {day}", cause=conflict)
        return dropped

    def vacuum(self, *, hours: int = VACUUM_HOURS) -> int:
        """Delete files that no version of the last ``hours`` refers to, and what dead attempts have staged; returns how many.

        :raises SpecError: ``hours`` is less than a week.
        """
        if hours < VACUUM_HOURS:
            raise SpecError(
                f"vacuum after {hours} h could take files from readers and loads; give {VACUUM_HOURS} or more."
            )
        return len(self._open().vacuum(hours, dry_run=False, full=True))

    def checkpoint(self) -> None:
        """Let readers begin at the newest version instead of reading the log from its last checkpoint on."""
        self._open().create_checkpoint()

    def _compact_day(self, day: date, target_bytes: int) -> int:
        from deltalake.exceptions import CommitFailedError

        filters = [(name, "=", value) for name, value in partition_of(day).items()]
        conflict: Exception | None = None
        for _ in range(COMMIT_ATTEMPTS):
            table = self._open()
            read = table.version()
            try:
                told = table.optimize.compact(filters, target_size=target_bytes, max_concurrent_tasks=1)
            except CommitFailedError as faster:
                log.info("%s %s: a load was faster: %s", self.uri, day, faster)
                conflict = faster
                continue
            if not told["numFilesAdded"]:
                return 0
            self._compare(day, read, told)
            return 1
        raise ConcurrentLoadError(load=f"{self.uri} {day}", cause=conflict)

    def _compare(self, day: date, read: int, told: dict[str, Any]) -> None:
        """The day at the version that was read and at the newest that our commit made.

        A load of the same day would have been a conflict, so that between the two only our commit is about it.
        """
        from deltalake import DeltaTable

        newest = self._open()
        ours = next(
            entry["version"]
            for entry in newest.history()
            if entry.get("operation") == "OPTIMIZE" and entry["version"] > read
        )
        former, now = (_fingerprint(DeltaTable(self.uri, version=version), day) for version in (read, ours))
        log.info("%s %s: %d files instead of %d", self.uri, day, told["numFilesAdded"], told["numFilesRemoved"])
        if former != now:
            raise ReconcileError(
                f"{self.uri} {day}: compacting changed {former[0]:,} rows into {now[0]:,} or their values. Restore version {read} "
                "of the table, and report it."
            )

    def _files_by_day(self) -> dict[date, int]:
        import pyarrow as pa

        actions = pa.table(self._open().get_add_actions(flatten=True))
        values = [actions[f"partition.{name}"].to_pylist() for name in PARTITION_COLUMNS]
        return Counter(date(*map(int, day)) for day in zip(*values, strict=True))

    def _open(self) -> DeltaTable:
        from deltalake import DeltaTable

        with reaching(self.uri):
            return DeltaTable(self.uri)


def _fingerprint(table: DeltaTable, day: date) -> tuple[int, int]:
    """Count and sum of the hashes of a day's rows, whatever their order and files."""
    import duckdb

    with duckdb.connect(config={"memory_limit": "400MB"}) as connection:
        connection.register("day_rows", table.to_pyarrow_dataset().scanner(filter=on_day(day)).to_reader())
        row = connection.execute("SELECT count(*), coalesce(sum(hash(day_rows)::HUGEINT), 0) FROM day_rows").fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def days_ago(days: int) -> date:
    """The UTC date that lies so many days back."""
    return datetime.now(UTC).date() - timedelta(days=days)


def as_facts(size: TableSize) -> dict[str, int]:
    return asdict(size)
