"""Ranges in a Delta table and their rejects in quarantine, on a local folder: each once, in whatever order attempts come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import ConcurrentLoadError, SpecError
from tallyclerk.sinks.lake_stream import LakeStream, StreamHead, range_name
from tallyclerk.sinks.quarantine import Quarantine, quarantine_schema

SCHEMA = pa.schema([("offset", pa.int64())])
DAY = date(2026, 3, 10)
TOPIC = "sales"


def stream(folder: Path, topic: str = TOPIC) -> LakeStream:
    return LakeStream(str(folder / "table"), dataset="sales", schema=SCHEMA, topic=topic)


def receipt(ranges: Mapping[int, tuple[int, int]], topic: str = TOPIC) -> Receipt:
    offsets = Offsets(topic, ranges)
    return Receipt(
        dataset="sales", window=range_name(offsets), ledger=Ledger(), location="", load_id=uuid4().hex,
        cursor={OFFSETS_KEY: offsets.as_dict()},
    )  # fmt: skip


def load(
    table: LakeStream, folder: Path, *ranges: tuple[int, int], head: StreamHead | None = None, **options: Any
) -> Receipt:
    """Appends the offsets themselves, partition by partition."""
    signed = receipt(dict(enumerate(ranges)), table.topic)
    path = folder / f"{signed.load_id}.parquet"
    offsets = [offset for start, end in ranges for offset in range(start, end)]
    pq.write_table(pa.table({"offset": offsets}, schema=SCHEMA), path)
    return table.append(head or table.head(), [SpooledFile(path, len(offsets), DAY)], signed, **options)


def stored(folder: Path) -> list[int]:
    return sorted(DeltaTable(str(folder / "table")).to_pyarrow_table()["offset"].to_pylist())


def test_the_position_goes_on_where_the_newest_load_ended(tmp_path: Path) -> None:
    table = stream(tmp_path)
    assert table.head().position == {}
    load(table, tmp_path, (0, 3), (10, 12))
    assert table.head().position == {0: 3, 1: 12}
    load(table, tmp_path, (3, 3), (12, 15))
    assert table.head().position == {0: 3, 1: 15}
    assert stored(tmp_path) == [0, 1, 2, 10, 11, 12, 13, 14]


def test_a_second_commit_from_one_snapshot_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    table = stream(tmp_path)
    load(table, tmp_path, (0, 3))
    first = second = table.head()
    load(table, tmp_path, (3, 5), head=first)
    before = sorted((tmp_path / "table").rglob("*.parquet"))
    with pytest.raises(ConcurrentLoadError):
        load(table, tmp_path, (3, 9), head=second)
    assert sorted((tmp_path / "table").rglob("*.parquet")) == before
    assert stored(tmp_path) == list(range(5))


def test_two_topics_share_a_table_without_each_others_position(tmp_path: Path) -> None:
    one, other = stream(tmp_path), stream(tmp_path, "returns")
    head = other.head()
    load(one, tmp_path, (0, 3))
    load(other, tmp_path, (100, 104), head=head)
    assert (one.head().position, other.head().position) == ({0: 3}, {0: 104})
    assert [loaded.window for loaded in one.loads()] == ["sales/0:0-3"]


def test_a_load_of_a_range_takes_the_place_of_those_in_it_and_never_moves_the_position_back(tmp_path: Path) -> None:
    table = stream(tmp_path)
    for start in (0, 10, 20):
        load(table, tmp_path, (start, start + 10))
    again = Offsets(TOPIC, {0: (0, 20)})
    assert [former.window for former in table.covered(again)] == ["sales/0:0-10", "sales/0:10-20"]
    load(table, tmp_path, (0, 20), replaced=table.covered(again))
    assert stored(tmp_path) == list(range(30))
    assert table.head().position == {0: 30}
    assert [former.window for former in table.loads()] == ["sales/0:20-30", "sales/0:0-20"]
    with pytest.raises(SpecError, match="cuts through what was loaded as sales/0:0-20"):
        table.covered(Offsets(TOPIC, {0: (10, 30)}))


def test_a_replaced_load_is_refused_when_the_table_was_compacted(tmp_path: Path) -> None:
    table = stream(tmp_path)
    load(table, tmp_path, (0, 10))
    load(table, tmp_path, (10, 20))
    DeltaTable(table.uri).optimize.compact()
    with pytest.raises(SpecError, match="was compacted"):
        load(table, tmp_path, (0, 10), replaced=table.covered(Offsets(TOPIC, {0: (0, 10)})))
    assert stored(tmp_path) == list(range(20))


# --- quarantine -----------------------------------------------------------------------------------------------------


def reject(folder: Path, start: int, end: int, *offsets: int, note: str = "") -> list[int]:
    """Quarantine these offsets as the only bad ones of the range; returns all that are there then."""
    uri = "kafka://b:1/sales"
    common = {
        "dataset": "sales",
        "source": f"{uri}/0",
        "reason": note,
        "rejected_at": datetime(2026, 3, 10, tzinfo=UTC),
    }
    rows = [{**common, "record_number": offset} for offset in offsets]
    files = []
    if rows:
        path = folder / f"{uuid4().hex}.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=quarantine_schema()), path)
        files.append(SpooledFile(path, len(rows), DAY))
    signed = receipt({0: (start, end)})
    quarantine = Quarantine(str(folder / "quarantine"), dataset="sales")
    quarantine.replace_range(Offsets(TOPIC, {0: (start, end)}), uri, files, signed, folder)
    if not DeltaTable.is_deltatable(str(folder / "quarantine")):
        return []
    return sorted(DeltaTable(str(folder / "quarantine")).to_pyarrow_table()["record_number"].to_pylist())


def test_each_reject_is_there_once_when_an_attempt_dies_and_others_read_other_ranges(tmp_path: Path) -> None:
    assert reject(tmp_path, 0, 5) == []
    assert reject(tmp_path, 5, 20, 6, 12, 19) == [6, 12, 19]  # and dies
    assert reject(tmp_path, 5, 10, 6) == [6, 12, 19]
    assert reject(tmp_path, 10, 15, 12) == [6, 12, 19]
    assert reject(tmp_path, 15, 40, 19, 30) == [6, 12, 19, 30]


def test_a_reject_is_gone_when_its_range_is_read_again_without_it(tmp_path: Path) -> None:
    assert reject(tmp_path, 0, 10, 3, 7) == [3, 7]
    assert reject(tmp_path, 0, 10, 7, note="again") == [7]
    assert reject(tmp_path, 0, 10) == []
