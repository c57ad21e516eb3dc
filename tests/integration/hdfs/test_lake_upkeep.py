"""Upkeep of tables on the real HDFS: rows and receipts stay, files go, loads beside it are not hurt."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import hdfs_native
import pytest
from deltalake import DeltaTable

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.operators.lake_maintenance import delete_spools
from tallyclerk.sinks.lake_table import LakeTable, receipts_of
from tallyclerk.sinks.lake_upkeep import LakeUpkeep
from tests.integration.hdfs.lake_load import SCHEMA, load, spool

pytestmark = pytest.mark.integration
DAYS = ("2026-03-01", "2026-03-02")
FILES = 4


def load_in_files(uri: str, day: str, directory: Path, *, first: int = 0) -> Receipt:
    """A load of as many files as there are rows."""
    files = tuple(spool([(first + n, f"{n}.25", f"note {n}")], directory) for n in range(FILES))
    receipt = Receipt("sales", day, Ledger(read=FILES, written=FILES), uri, load_id=uuid4().hex, fingerprint=str(first))
    return LakeTable(f"{uri}/rows", dataset="sales", schema=SCHEMA).replace_window(Window.of_day(day), files, receipt)


def rows_of(uri: str) -> list[tuple]:
    table = DeltaTable(f"{uri}/rows").to_pyarrow_table(columns=[*SCHEMA.names, "day"])
    return sorted(tuple(row.values()) for row in table.to_pylist())


def compact(uri: str, **options: int) -> int:
    return LakeUpkeep(f"{uri}/rows").compact(
        before=date(2026, 3, 2), target_bytes=1 << 20, **{"from_files": 2, **options}
    )


def test_rows_and_receipts_stay_when_old_days_are_compacted_and_the_log_is_checkpointed(lake: str, tmp_path: Path):
    loads = [load_in_files(lake, day, tmp_path) for day in DAYS]
    before, rows = LakeUpkeep(f"{lake}/rows").size(), rows_of(lake)
    assert compact(lake) == 1
    upkeep = LakeUpkeep(f"{lake}/rows")
    upkeep.checkpoint()
    upkeep.vacuum()
    after = upkeep.size()
    assert (before.files, after.files) == (2 * FILES, FILES + 1)  # the second day is too young
    assert (after.rows, rows_of(lake)) == (before.rows, rows)
    assert receipts_of(f"{lake}/rows") == loads[::-1]
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert [table.receipt(Window.of_day(day)) for day in DAYS] == loads
    # a day that was compacted is replaced whole, as any other
    again = load_in_files(lake, DAYS[0], tmp_path, first=100)
    assert table.receipt(Window.of_day(DAYS[0])) == again
    assert [row[0] for row in rows_of(lake) if row[3] == 1] == [100, 101, 102, 103]


def test_a_day_stays_when_it_has_few_files(lake: str, tmp_path: Path):
    receipt = load_in_files(lake, DAYS[0], tmp_path)
    assert compact(lake, from_files=FILES + 1) == 0
    assert set(DeltaTable(f"{lake}/rows").file_uris()) == set(receipt.paths)


def test_rows_are_those_of_the_newest_loads_when_loads_run_beside_it(lake: str, tmp_path: Path):
    for day in DAYS:
        load_in_files(lake, day, tmp_path)

    def loads() -> list[Receipt]:
        return [load_in_files(lake, day, tmp_path, first=first) for first in (100, 200) for day in DAYS]

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(loads)
        compacted = 0
        while not running.done():
            compacted += compact(lake)
        newest = running.result()[-2:]
    assert compacted, "nothing was compacted while the loads ran"
    assert [(row[0], row[3]) for row in rows_of(lake)] == sorted((200 + n, day) for day in (1, 2) for n in range(FILES))
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert [table.receipt(Window.of_day(day)).load_id for day in DAYS] == [each.load_id for each in newest]


def test_only_old_unreferenced_files_are_deleted_when_vacuumed(lake: str, tmp_path: Path):
    load_in_files(lake, DAYS[0], tmp_path)
    client, root = hdfs_native.Client(lake), urlsplit(lake).path
    folder = f"{root}/rows/year=2026/month=03/day=01"
    for name in ("old", "young"):
        with client.create(f"{folder}/{name}.zstd.parquet") as file:
            file.write(b"staged by an attempt that died")
    week_ago = int(time.time() - 8 * 86400) * 1000
    client.set_times(f"{folder}/old.zstd.parquet", week_ago, week_ago)
    assert LakeUpkeep(f"{lake}/rows").vacuum() == 1
    names = {entry.path.rpartition("/")[2] for entry in client.list_status(folder)}
    assert "young.zstd.parquet" in names
    assert len(names) == FILES + 1
    with pytest.raises(SpecError, match="give 168 or more"):
        LakeUpkeep(f"{lake}/rows").vacuum(hours=24)


def test_old_rejects_are_dropped_and_younger_ones_stay_when_their_time_is_over(lake: str):
    load(lake, [(1, "1.00", "a")], rejects=3, day=DAYS[0])
    load(lake, [(1, "1.00", "a")], rejects=2, day=DAYS[1])
    assert LakeUpkeep(f"{lake}/quarantine").drop_days(before=date(2026, 3, 2)) == 3
    assert DeltaTable(f"{lake}/quarantine").to_pyarrow_table()["day"].to_pylist() == [2, 2]


def test_only_old_spools_are_deleted_when_their_attempts_died(tmp_path: Path):
    for name, age_hours in (("tallyclerk-old", 50), ("tallyclerk-used", 50), ("other", 50)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.parquet").write_text("x")
        then = time.time() - age_hours * 3600
        for path in (tmp_path / name / "rows.parquet", tmp_path / name):
            os.utime(path, (then, then))
    (tmp_path / "tallyclerk-used" / "rows.parquet").touch()
    assert delete_spools(older_than_hours=48, folder=tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"tallyclerk-used", "other"}
