"""A Delta table whose day partitions are replaced, one commit for rows, ledger and cursor (promises P1 to P3).

The files of a window are uploaded first, under names that no commit mentions. Then one Delta commit removes the window's
former files, adds the new ones and carries the receipt. A reader sees the old rows or the new ones, never a part; an
attempt that dies before its commit leaves only files that ``vacuum`` takes away.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.receipt import RECEIPT_KEY, Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import ConcurrentLoadError, SchemaMismatchError, ServiceUnavailableError
from tallyclerk.sinks.lake_files import LakeFiles, reaching

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import AddAction, RemoveAction
    from pyarrow.compute import Expression

log = logging.getLogger(__name__)

PARTITION_COLUMNS = ("year", "month", "day")
COMMIT_ATTEMPTS = 5
WRITTEN_BYTES_KEY = "written_bytes"
"""In ``Receipt.details``: the size of the load's files."""
_TABLE_PROPERTIES = {
    # the receipts live in the log, so that it is kept for as long as anyone may ask for them
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.enableDeletionVectors": "false",
}


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file that lies in the table's folder and that no commit mentions yet.

    :param relative: its path below the table. :param partition: its day's partition values.
    """

    relative: str
    size: int
    rows: int
    partition: Mapping[str, str]


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

        with reaching(self.uri):
            try:
                return DeltaTable(self.uri)
            except TableNotFoundError:
                return None

    def receipt(self, window: Window) -> Receipt | None:
        """The receipt of the commit that the window's rows come from."""
        table = self.open()
        return self._committed(table, window) if table else None

    def replace_window(
        self, window: Window, files: tuple[SpooledFile, ...], receipt: Receipt, *, former: str | None = None
    ) -> Receipt:
        """Make ``files`` the window's only rows, in one commit that carries ``receipt``.

        Two attempts at once: the later commit wins whole, and an attempt whose fingerprint another has committed since it
        began writes nothing. Exactly once per window and fingerprint.

        :param former: load id of the window's receipt when this attempt began, "" where it had none. With None, another's
            commit is noticed only when it comes while this one is under way.
        :returns: the receipt with location, paths and version filled in.
        :raises SpecError: the window is not one UTC day.
        :raises SchemaMismatchError: the table has other columns.
        :raises ConcurrentLoadError: others kept committing the same window; retry.
        :raises ServiceUnavailableError: the store is away; retry.
        """
        values = partition_of(window.day)
        table = self._open_or_create()
        latest = self._committed(table, window) if former is not None else None
        if latest is not None and latest.load_id != former and _is_same_load(latest, receipt):
            return latest.as_repeated()
        staged = self._stage([replace(file, day=window.day) for file in files], receipt)
        signed = self._sign(receipt, staged)
        app = load_name(self.dataset, window)
        for _ in range(COMMIT_ATTEMPTS):
            conflict = self._commit(table, staged, signed, app=app, replaces=values)
            table = self._open_or_create()
            latest = self._committed(table, window)
            if conflict is None and latest is not None and latest.load_id == receipt.load_id:
                return latest
            if conflict is None:
                # ours stands in the log, and another attempt has replaced it since: the window's answer is theirs
                return latest if latest is not None else signed
            if latest is not None and _is_same_load(latest, receipt):
                self._unstage(staged)
                return latest.as_repeated()
        raise ConcurrentLoadError(load=app, cause=conflict)

    def _stage(self, files: Sequence[SpooledFile], receipt: Receipt) -> list[StagedFile]:
        """Upload the files, each into its day's folder, under names that no commit mentions yet."""
        staged = []
        for number, file in enumerate(file for file in files if file.rows):
            assert file.day is not None
            folder = f"year={file.day.year:04d}/month={file.day.month:02d}/day={file.day.day:02d}"
            relative = f"{folder}/part-{number:05d}-{receipt.load_id}.zstd.parquet"
            size = self._files.upload(file.path, relative)
            staged.append(StagedFile(relative, size, file.rows, partition_of(file.day)))
        return staged

    def _sign(self, receipt: Receipt, staged: Sequence[StagedFile]) -> Receipt:
        """The receipt, with what is known of the files once they are staged."""
        return replace(
            receipt,
            location=self.uri,
            paths=tuple(f"{self.uri}/{file.relative}" for file in staged),
            details={**receipt.details, WRITTEN_BYTES_KEY: sum(file.size for file in staged)},
        )

    def _unstage(self, staged: Sequence[StagedFile]) -> None:
        for file in staged:
            self._files.delete(file.relative)

    def _commit(
        self,
        table: DeltaTable,
        staged: Sequence[StagedFile],
        receipt: Receipt,
        *,
        app: str,
        replaces: Mapping[str, str] | None,
        removes: Sequence[RemoveAction] = (),
    ) -> Exception | None:
        """One try; returns the conflict when another commit was faster.

        :param app: the app transaction's id. It names the version that this attempt expects to write: it only grows, it leads
            :meth:`_newest` to the log entry, and two attempts from one snapshot collide on it.
        :param replaces: the partition whose former files go; None to append.
        :param removes: single files that go, when appending.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError

        try:
            with reaching(self.uri):
                table.create_write_transaction(
                    [*map(_add_action, staged), *removes],
                    mode="append" if replaces is None else "overwrite",
                    schema=table.schema(),
                    partition_by=list(PARTITION_COLUMNS),
                    partition_filters=None
                    if replaces is None
                    else [(name, "=", value) for name, value in replaces.items()],
                    commit_properties=CommitProperties(
                        custom_metadata={RECEIPT_KEY: receipt.as_json()},
                        app_transactions=[Transaction(app, table.version() + 1)],
                        max_commit_retries=COMMIT_ATTEMPTS,
                    ),
                )
        except CommitFailedError as conflict:
            # A commit whose answer was lost is tried again below us, and meets itself. Its files must not go.
            if (now := self.open()) is not None and self._own(now, app, receipt) is not None:
                return None
            log.info("%s: another commit was faster: %s", receipt.load, conflict)
            return conflict
        return None

    def _own(self, table: DeltaTable, app: str, receipt: Receipt) -> Receipt | None:
        """The receipt as its commit has it, where that is the newest with this app transaction."""
        return self._newest(table, app, lambda found: found.load_id == receipt.load_id)

    def _committed(self, table: DeltaTable, window: Window) -> Receipt | None:
        return self._newest(table, load_name(self.dataset, window), lambda receipt: receipt.window == window.key)

    def _newest(self, table: DeltaTable, app: str, is_theirs: Callable[[Receipt], bool]) -> Receipt | None:
        """The receipt of the newest commit with this app transaction."""
        expected = table.transaction_version(app)
        if expected is None:
            return None
        # a commit that was rebased over another partition's stands a few versions later than it expected
        for version in range(expected, table.version() + 1):
            receipt = _receipt_in(self._files.read_text(f"_delta_log/{version:020d}.json") or "")
            if receipt is not None and is_theirs(receipt):
                return replace(receipt, version=version)
        return None

    def _open_or_create(self) -> DeltaTable:
        from deltalake import DeltaTable, Schema
        from deltalake.exceptions import CommitFailedError

        table = self.open()
        if table is None:
            try:
                with reaching(self.uri):
                    DeltaTable.create(
                        self.uri,
                        Schema.from_arrow(self._schema),
                        mode="ignore",
                        partition_by=list(PARTITION_COLUMNS),
                        configuration=_TABLE_PROPERTIES,
                    )
            except CommitFailedError as conflict:
                log.info("%s: another attempt created the table: %s", self.uri, conflict)
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


def partition_of(day: date) -> dict[str, str]:
    """A day's partition values, as the log writes them."""
    return {"year": str(day.year), "month": str(day.month), "day": str(day.day)}


def on_day(day: date) -> Expression:
    """The filter by which only a day's partition is read."""
    import pyarrow.compute as pc

    return (pc.field("year") == day.year) & (pc.field("month") == day.month) & (pc.field("day") == day.day)


def rows_of(uri: str, condition: Expression | None = None) -> list[dict[str, Any]]:
    """A Delta table's rows, with its partition columns; none where there is no table."""
    from deltalake import DeltaTable

    if not DeltaTable.is_deltatable(uri):
        return []
    return DeltaTable(uri).to_pyarrow_dataset().to_table(filter=condition).to_pylist()


def window_rows(table: DeltaTable, window: Window) -> list[dict[str, Any]]:
    """A Delta table's rows of one day's window, without the partition columns."""
    import pyarrow.compute as pc

    own = on_day(window.day) & (pc.field("window") == window.key)
    return table.to_pyarrow_dataset().to_table(filter=own).drop_columns(["year", "month", "day"]).to_pylist()


def _is_same_load(one: Receipt, other: Receipt) -> bool:
    """Whether both write the same rows; without a fingerprint nobody knows."""
    return one.fingerprint == other.fingerprint != ""


def _add_action(file: StagedFile) -> AddAction:
    from deltalake.transaction import AddAction

    return AddAction(
        path=file.relative,
        size=file.size,
        partition_values=file.partition,
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=json.dumps({"numRecords": file.rows}),
    )


def _receipt_in(log_entry: str) -> Receipt | None:
    """The receipt among the actions of one Delta log file."""
    for line in log_entry.splitlines():
        if RECEIPT_KEY in line and (receipt := _signed(json.loads(line).get("commitInfo", {}))) is not None:
            return receipt
    return None


def _signed(commit: dict[str, Any]) -> Receipt | None:
    """The receipt of one commit: delta-rs keeps it in a key of its own, Spark in ``userMetadata``."""
    facts = commit.get(RECEIPT_KEY)
    if facts is None and RECEIPT_KEY in str(commit.get("userMetadata", "")):
        facts = json.loads(commit["userMetadata"])[RECEIPT_KEY]
    if facts is None:
        return None
    return Receipt.from_dict(json.loads(facts) if isinstance(facts, str) else facts)


def receipts_of(uri: str, *, limit: int | None = None) -> list[Receipt]:
    """Every receipt in a table's log, newest first."""
    from deltalake import DeltaTable

    found = []
    for entry in DeltaTable(uri).history(limit):
        if (receipt := _signed(entry)) is not None:
            found.append(replace(receipt, version=entry["version"]))
    return found
