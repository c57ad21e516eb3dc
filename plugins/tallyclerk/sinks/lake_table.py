"""A Delta table whose day partitions are replaced, one commit for rows, ledger and cursor (promises P1 to P3).

The files of a window are uploaded first, under names that no commit mentions. Then one Delta commit removes the window's
former files, adds the new ones and carries the receipt. A reader sees the old rows or the new ones, never a part; an
attempt that dies before its commit leaves only files that ``vacuum`` takes away.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.receipt import RECEIPT_KEY, Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import ConcurrentLoadError, SchemaMismatchError, ServiceUnavailableError
from tallyclerk.sinks.lake_files import LakeFiles

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction

log = logging.getLogger(__name__)

PARTITION_COLUMNS = ("year", "month", "day")
COMMIT_ATTEMPTS = 5
_TABLE_PROPERTIES = {
    # the receipts live in the log, so that it is kept for as long as anyone may ask for them
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.enableDeletionVectors": "false",
}


class LakeTable:
    """One data set's table.

    :param uri: ``hdfs://host:port/path`` or a local path.
    :param dataset: the name under which its loads are committed.
    :param schema: Arrow schema of the rows, without the partition columns ``year``, ``month``, ``day``.
    """

    def __init__(self, uri: str, *, dataset: str, schema: pa.Schema) -> None:
        import pyarrow as pa

        self.uri = uri.rstrip("/")
        self.dataset = dataset
        # nullable throughout: what is required is the contract's matter, and a table outlives a contract's version
        self._row_schema = pa.schema([field.with_nullable(True).remove_metadata() for field in schema])
        self._schema = pa.schema([*self._row_schema, *(pa.field(name, pa.int32()) for name in PARTITION_COLUMNS)])
        self._files = LakeFiles(self.uri)

    def open(self) -> DeltaTable | None:
        """The table as it is now, or None when nothing was ever committed."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            return DeltaTable(self.uri)
        except TableNotFoundError:
            return None
        except OSError as error:
            raise ServiceUnavailableError(service="the lake", address=self.uri, cause=error) from error

    def receipt(self, window: Window) -> Receipt | None:
        """The receipt of the commit that the window's rows come from."""
        table = self.open()
        return self._committed(table, window) if table else None

    def replace_window(self, window: Window, files: tuple[SpooledFile, ...], receipt: Receipt) -> Receipt:
        """Make ``files`` the window's only rows, in one commit that carries ``receipt``.

        Two attempts at once: the later commit wins whole, and an attempt whose fingerprint another has just committed
        writes nothing. Exactly once per window and fingerprint.

        :returns: the receipt with location, paths and version filled in.
        :raises SpecError: the window is not one UTC day.
        :raises SchemaMismatchError: the table has other columns.
        :raises ConcurrentLoadError: others kept committing the same window; retry.
        :raises ServiceUnavailableError: the store is away; retry.
        """
        day = window.day
        table = self._open_or_create()
        folder = f"year={day.year:04d}/month={day.month:02d}/day={day.day:02d}"
        staged: list[tuple[str, int, int]] = []
        for number, file in enumerate(file for file in files if file.rows):
            relative = f"{folder}/part-{number:05d}-{receipt.load_id}.zstd.parquet"
            staged.append((relative, self._files.upload(file.path, relative), file.rows))
        signed = replace(receipt, location=self.uri, paths=tuple(f"{self.uri}/{relative}" for relative, _, _ in staged))
        for _ in range(COMMIT_ATTEMPTS):
            conflict = self._commit(table, window, staged, signed)
            table = self._open_or_create()
            latest = self._committed(table, window)
            if conflict is None and latest is not None and latest.load_id == receipt.load_id:
                return latest
            if conflict is None:
                # ours stands in the log, and another attempt has replaced it since: the window's answer is theirs
                return latest if latest is not None else signed
            if latest is not None and latest.fingerprint == receipt.fingerprint != "":
                for relative, _, _ in staged:
                    self._files.delete(relative)
                return latest.as_repeated()
        raise ConcurrentLoadError(load=load_name(self.dataset, window), cause=conflict)

    def _commit(
        self, table: DeltaTable, window: Window, staged: list[tuple[str, int, int]], receipt: Receipt
    ) -> Exception | None:
        """One try; returns the conflict when another commit was faster."""
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError

        day = window.day
        values = {"year": str(day.year), "month": str(day.month), "day": str(day.day)}
        try:
            table.create_write_transaction(
                [_add_action(relative, size, rows, values) for relative, size, rows in staged],
                mode="overwrite",
                schema=table.schema(),
                partition_by=list(PARTITION_COLUMNS),
                partition_filters=[(name, "=", value) for name, value in values.items()],
                commit_properties=CommitProperties(
                    custom_metadata={RECEIPT_KEY: receipt.as_json()},
                    # The window's transaction names the version that this attempt expects to write: it only grows,
                    # it leads `_committed` to the log entry, and two attempts from one snapshot collide on it.
                    app_transactions=[Transaction(load_name(self.dataset, window), table.version() + 1)],
                    max_commit_retries=COMMIT_ATTEMPTS,
                ),
            )
        except CommitFailedError as conflict:
            log.info("%s: another commit was faster: %s", receipt.load, conflict)
            return conflict
        except OSError as error:
            raise ServiceUnavailableError(service="the lake", address=self.uri, cause=error) from error
        return None

    def _committed(self, table: DeltaTable, window: Window) -> Receipt | None:
        expected = table.transaction_version(load_name(self.dataset, window))
        if expected is None:
            return None
        # a commit that was rebased over another partition's stands a few versions later than it expected
        for version in range(expected, table.version() + 1):
            receipt = _receipt_in(self._files.read_text(f"_delta_log/{version:020d}.json") or "")
            if receipt is not None and receipt.window == window.key:
                return replace(receipt, version=version)
        return None

    def _open_or_create(self) -> DeltaTable:
        from deltalake import DeltaTable, Schema
        from deltalake.exceptions import CommitFailedError

        table = self.open()
        if table is None:
            try:
                DeltaTable.create(
                    self.uri,
                    Schema.from_arrow(self._schema),
                    mode="ignore",
                    partition_by=list(PARTITION_COLUMNS),
                    configuration=_TABLE_PROPERTIES,
                )
            except CommitFailedError as conflict:
                log.info("%s: another attempt created the table: %s", self.uri, conflict)
            except OSError as error:
                raise ServiceUnavailableError(service="the lake", address=self.uri, cause=error) from error
            table = self.open()
            if table is None:
                raise ServiceUnavailableError(service="the lake", address=self.uri, cause="a new table is not there")
        self._check_schema(table)
        return table

    def _check_schema(self, table: DeltaTable) -> None:
        from deltalake import Schema

        wanted = {field.name: str(field.type) for field in Schema.from_arrow(self._schema).fields}
        stored = {field.name: str(field.type) for field in table.schema().fields}
        if wanted != stored:
            names = [name for name in {**wanted, **stored} if wanted.get(name) != stored.get(name)]
            raise SchemaMismatchError(
                table=self.uri,
                differences=[
                    f"{name}: the contract has {wanted.get(name, 'no such column')}, "
                    f"the table {stored.get(name, 'no such column')}"
                    for name in names
                ],
            )


def _add_action(relative: str, size: int, rows: int, values: dict[str, str]) -> AddAction:
    from deltalake.transaction import AddAction

    return AddAction(
        path=relative,
        size=size,
        partition_values=values,
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=json.dumps({"numRecords": rows}),
    )


def _receipt_in(log_entry: str) -> Receipt | None:
    """The receipt among the actions of one Delta log file."""
    for line in log_entry.splitlines():
        if RECEIPT_KEY in line:
            facts = json.loads(line).get("commitInfo", {}).get(RECEIPT_KEY)
            if facts is not None:
                return Receipt.from_json(facts)
    return None


def receipts_of(uri: str, *, limit: int | None = None) -> list[Receipt]:
    """Every receipt in a table's log, newest first; Spark's commits carry theirs in ``userMetadata``."""
    from deltalake import DeltaTable

    found = []
    for entry in DeltaTable(uri).history(limit):
        facts = entry.get(RECEIPT_KEY)
        if facts is None and RECEIPT_KEY in str(entry.get("userMetadata", "")):
            facts = json.loads(entry["userMetadata"])[RECEIPT_KEY]
        if facts is not None:
            values = json.loads(facts) if isinstance(facts, str) else facts
            found.append(replace(Receipt.from_dict(values), version=entry["version"]))
    return found
