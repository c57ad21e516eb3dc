"""The end of a table's log on the real HDFS, asked again after each kind of change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deltalake import DeltaTable
from hdfs_native import Client

from tallyclerk.exceptions import ServiceUnavailableError
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
    delete(f"{lake}/rows")
    loaded = load(lake, ROWS[:1])
    end = log.end()
    assert first is not None
    assert end is not None
    assert end.version == first.version
    assert end.receipt == loaded


def delete(uri: str) -> None:
    root, path = uri.split("/tmp/")
    Client(root).delete(f"/tmp/{path}", recursive=True)


@pytest.mark.parametrize(
    "read", [DeltaTable.to_pyarrow_table, lambda opened: DeltaTable(opened.table_uri)], ids=["rows", "anew"]
)
def test_there_is_no_table_when_it_goes_while_it_is_read(lake: str, read: Callable[[DeltaTable], object]) -> None:
    paths = load(lake, ROWS).paths
    log, opened = LakeLog(f"{lake}/rows"), DeltaTable(f"{lake}/rows")
    assert log.look(opened.file_uris) == [*paths]
    delete(f"{lake}/rows")
    assert log.look(lambda: read(opened)) is None


def test_a_lost_file_is_an_error_when_its_table_is_there(lake: str) -> None:
    (lost,) = load(lake, ROWS).paths
    delete(lost)
    with pytest.raises(ServiceUnavailableError, match=lost.rpartition("/")[2]):
        LakeLog(f"{lake}/rows").look(lambda: DeltaTable(f"{lake}/rows").to_pyarrow_table())


def test_the_log_is_not_read_again_when_nothing_was_committed(lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    load(lake, ROWS)
    log = LakeLog(f"{lake}/rows")
    end = log.end()
    monkeypatch.delattr(lake_log, "receipts_of")
    assert log.end() is end
