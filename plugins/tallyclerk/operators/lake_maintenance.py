"""The lake's tables, tidied up."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.exceptions import ReconcileError
from tallyclerk.operators.metrics import tell

if TYPE_CHECKING:
    from airflow.sdk import Context

_SPOOLS = "tallyclerk-*"


class LakeMaintenanceOperator(BaseOperator):
    """Compact old days of many files, drop quarantined records past their time, delete files that nobody refers to.

    Guarantee: rows and receipts are the same after it, but for quarantined records older than ``keep_quarantine_days``. Each day's
    rows are compared across the commit that compacts it; loads may run beside it. Corrections are never dropped: each later load
    of their window needs them. Neither is anything in the topic of commits: Kafka compacts it to the newest receipt of each load,
    without which a load would be sent again.

    :param zones: folders below ``/data``. Templated.
    :param compact_after_days: days younger than that stay as they are. Ranges of a stream that were compacted cannot be replaced
        singly any more; let it be no less than the topics' retention. Templated.
    :param compact_from_files: days with fewer files stay as they are, so that a served day's former version can still be read.
    :param target_file_bytes: size of the files to write.
    :param vacuum_hours: how long unreferenced files stay, and what dead attempts have staged; a week at least.
    :param keep_quarantine_days: rejected records of older windows are dropped. Templated.
    :param keep_spools_hours: spools of dead attempts on this worker's disk that are older are deleted.
    :return: for each table ``before`` and ``after`` (``files``, ``bytes``, ``rows``), ``compacted_days``, ``deleted_files`` and
        ``dropped_rows``; under ``spools`` how many folders were deleted.
    :raises ReconcileError: a table's rows are not those of before.
    :raises TransientError: HDFS is away, or loads were faster each time; a retry goes on with what is left.
    """

    template_fields: Sequence[str] = ("zones", "compact_after_days", "keep_quarantine_days")

    def __init__(
        self,
        *,
        zones: Sequence[str] = ("raw", "processed", "enriched", "reconciliation", "corrections", "quarantine"),
        compact_after_days: int | str = 30,
        compact_from_files: int = 10,
        target_file_bytes: int = 128 << 20,
        vacuum_hours: int = 168,
        keep_quarantine_days: int | str = 90,
        keep_spools_hours: float = 48,
        hdfs_conn_id: str = "hdfs_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.zones, self.compact_after_days, self.compact_from_files = zones, compact_after_days, compact_from_files
        self.target_file_bytes, self.vacuum_hours = target_file_bytes, vacuum_hours
        self.keep_quarantine_days, self.keep_spools_hours = keep_quarantine_days, keep_spools_hours
        self.hdfs_conn_id = hdfs_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from deltalake import DeltaTable

        from tallyclerk.hooks.lake import LakeHook
        from tallyclerk.sinks.lake_zones import tables

        told: dict[str, Any] = {}
        for uri in tables(LakeHook(self.hdfs_conn_id).root, tuple(self.zones)):
            if DeltaTable.is_deltatable(uri):
                name = uri.partition("/data/")[2]
                told[name] = self.tidy(uri, is_quarantine=name.startswith("quarantine/"))
                tell(
                    f"lake.{name.replace('/', '.')}",
                    {key: told[name]["after"][key] for key in ("files", "bytes", "rows")},
                )
        told["spools"] = delete_spools(older_than_hours=self.keep_spools_hours)
        return told

    def tidy(self, uri: str, *, is_quarantine: bool) -> dict[str, Any]:
        """One table."""
        from tallyclerk.sinks.lake_upkeep import LakeUpkeep, as_facts, days_ago

        table = LakeUpkeep(uri)
        before, version = table.size(), table.version()
        dropped = table.drop_days(before=days_ago(int(self.keep_quarantine_days))) if is_quarantine else 0
        days = table.compact(
            before=days_ago(int(self.compact_after_days)), target_bytes=self.target_file_bytes,
            from_files=self.compact_from_files,
        )  # fmt: skip
        deleted = table.vacuum(hours=self.vacuum_hours)
        table.checkpoint()
        after = table.size()
        if after.rows != before.rows - dropped and not table.loaded_since(version):
            raise ReconcileError(
                f"{uri} had {before.rows:,} rows, {dropped:,} were dropped, and {after.rows:,} are left, though nobody has loaded it. "
                f"Restore version {version} of the table, and report it."
            )
        self.log.info(
            "%s: %d files instead of %d, %d days compacted, %d old files deleted, %d rows",
            uri, after.files, before.files, days, deleted, after.rows,
        )  # fmt: skip
        return {
            "before": as_facts(before), "after": as_facts(after), "compacted_days": days, "deleted_files": deleted,
            "dropped_rows": dropped,
        }  # fmt: skip


def delete_spools(*, older_than_hours: float, folder: Path | None = None) -> int:
    """Delete the spools of attempts that died on this machine; returns how many. ``folder`` is that of temporary files.

    A spool is old by the newest of its files, so that one that is still written to stays.
    """
    deleted = 0
    for spool in (folder or Path(tempfile.gettempdir())).glob(_SPOOLS):
        try:
            newest = max(path.stat().st_mtime for path in (spool, *spool.rglob("*")))
            if spool.is_dir() and time.time() - newest > older_than_hours * 3600:
                shutil.rmtree(spool)
                deleted += 1
        except FileNotFoundError:  # its load has ended meanwhile
            continue
    return deleted
