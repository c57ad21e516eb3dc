"""The end of a table's log on the real HDFS, asked again after each kind of change."""

from __future__ import annotations

import pytest
from deltalake import DeltaTable
from hdfs_native import Client

from tallyclerk.sinks import lake_log
from tallyclerk.sinks.lake_log import LakeLog
from tests.integration.hdfs.lake_load import load

pytestmark = pytest.mark.integration

ROWS = [(1, "1.50", "a"), (2, "2.50", None)]


def test_the_newest_commit_is_told_each_time_when_the_table_grows(lake: str) -> None:
    log = LakeLog(f"{lake}/rows")
    assert log.end() is None
    for rows in (ROWS, ROWS[:1]):
        loaded = load(lake, rows)
        end = log.end()
        assert end is not None
        assert (end.version, end.receipt) == (loaded.version, loaded)


def test_the_last_load_is_told_when_maintenance_has_committed_since(lake: str) -> None:
    loaded = load(lake, ROWS)
    log = LakeLog(f"{lake}/rows")
    log.end()
    DeltaTable(f"{lake}/rows").alter.set_table_properties({"delta.appendOnly": "false"})
    end = log.end()
    assert end is not None
    assert end.version == DeltaTable(f"{lake}/rows").version() == loaded.version + 1
    assert end.receipt == loaded


def test_the_new_tables_commit_is_told_when_a_table_was_made_anew(lake: str) -> None:
    log = LakeLog(f"{lake}/rows")
    load(lake, ROWS)
    first = log.end()
    root, _, path = lake.rpartition("/tmp/")
    Client(root).delete(f"/tmp/{path}/rows", recursive=True)
    loaded = load(lake, ROWS[:1])
    end = log.end()
    assert first is not None
    assert end is not None
    assert end.version == first.version
    assert end.receipt == loaded


def test_the_log_is_not_read_again_when_nothing_was_committed(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load(lake, ROWS)
    log = LakeLog(f"{lake}/rows")
    end = log.end()
    monkeypatch.delattr(lake_log, "receipts_of")
    assert log.end() is end
