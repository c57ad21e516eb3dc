"""Day partitions of a Delta table on the real HDFS: replaced whole, once, and never seen in part."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import hdfs_native
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SchemaMismatchError, SpecError
from tallyclerk.sinks.lake_files import LakeFiles
from tallyclerk.sinks.lake_table import LakeTable, receipts_of
from tests.integration.hdfs import lake_load
from tests.integration.hdfs.lake_load import DAY, SCHEMA, load

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
FORMER = [(1, "1.50", "a"), (2, "2.50", None), (3, "0.00", "c")]
NEW = [(number, f"{number}.25", f"note {number}") for number in range(1, 501)]


def rows_of(uri: str, **partition: int) -> list[tuple]:
    """What a reader sees, by id."""
    filters = [(name, "=", value) for name, value in partition.items()] or None
    table = DeltaTable(f"{uri}/rows").to_pyarrow_table(filters=filters, columns=SCHEMA.names)
    return sorted(tuple(row.values()) for row in table.to_pylist())


def exact(rows: list[tuple]) -> list[tuple]:
    return sorted((number, Decimal(amount), note) for number, amount, note in rows)


def quarantined(uri: str) -> int:
    return DeltaTable(f"{uri}/quarantine").to_pyarrow_table().num_rows


def process(uri: str, rows: list[tuple], **options: object) -> subprocess.Popen[str]:
    asked = json.dumps({"uri": uri, "rows": rows, **options})
    return subprocess.Popen(
        [sys.executable, lake_load.__file__, asked],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
    )


# --- one attempt after another --------------------------------------------------------------------------------------


def test_rows_and_receipt_are_the_same_when_a_window_is_replaced_twice(lake: str):
    first = load(lake, FORMER, fingerprint="f")
    second = load(lake, FORMER, fingerprint="f")
    assert rows_of(lake) == exact(FORMER)
    assert first.ledger == second.ledger == Ledger(read=3, written=3)
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert table.receipt(Window.of_day(DAY)) == second
    assert len(second.paths) == 1
    assert second.paths[0].startswith(f"{lake}/rows/year=2026/month=03/day=01/")


@pytest.mark.parametrize("fingerprint", ["f", ""])
def test_rows_stay_when_their_commit_stands_and_is_told_to_have_failed(
    lake: str, monkeypatch: pytest.MonkeyPatch, fingerprint: str
):
    load(lake, FORMER)
    commit = DeltaTable.create_write_transaction

    def with_a_lost_answer(*arguments: object, **options: object) -> None:
        commit(*arguments, **options)
        raise CommitFailedError("there is such a version already")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", with_a_lost_answer)
    receipt = load(lake, NEW, fingerprint=fingerprint)
    assert rows_of(lake) == exact(NEW)
    assert receipts_of(f"{lake}/rows", limit=1) == [receipt]
    assert not receipt.repeated


def test_only_the_windows_rows_change_when_another_day_is_there(lake: str):
    load(lake, FORMER)
    load(lake, [(9, "9.00", "next day")], day="2026-03-02")
    load(lake, [(4, "4.00", "d")])
    assert rows_of(lake, day=1) == exact([(4, "4.00", "d")])
    assert rows_of(lake, day=2) == exact([(9, "9.00", "next day")])
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert table.receipt(Window.of_day("2026-03-02")).ledger.written == 1
    assert table.receipt(Window.of_day("2026-03-03")) is None


def test_window_becomes_empty_when_the_new_load_has_no_rows(lake: str):
    load(lake, FORMER)
    receipt = load(lake, [])
    assert rows_of(lake) == []
    assert receipt.paths == ()
    assert receipt.ledger == Ledger()
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert table.receipt(Window.of_day(DAY)) == receipt


def test_receipt_is_committed_when_the_first_load_of_a_table_is_empty(lake: str):
    receipt = load(lake, [])
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert table.receipt(Window.of_day(DAY)) == receipt


def test_receipts_are_read_newest_first_when_asked_for_the_history(lake: str):
    loads = [load(lake, FORMER), load(lake, NEW, rejects=2), load(lake, FORMER, day="2026-03-02")]
    assert receipts_of(f"{lake}/rows") == loads[::-1]
    assert receipts_of(f"{lake}/rows", limit=1) == loads[:1:-1]


def test_window_is_refused_when_it_is_not_one_day(lake: str):
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    window = Window.from_key("2026-03-01T00:00:00+00:00/2026-03-01T12:00:00+00:00")
    with pytest.raises(SpecError, match="not one UTC day"):
        table.replace_window(window, (), None)


def test_load_is_refused_when_the_table_has_other_columns(lake: str):
    load(lake, FORMER)
    other = pa.schema([("id", pa.int64()), ("amount", pa.decimal128(14, 2)), ("extra", pa.string())])
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=other)
    with pytest.raises(SchemaMismatchError) as refusal:
        table.replace_window(Window.of_day(DAY), (), None)
    for difference in ("amount: the contract has", "extra: the contract has", "note: the contract has no such column"):
        assert difference in str(refusal.value)
    assert rows_of(lake) == exact(FORMER)


# --- quarantine -----------------------------------------------------------------------------------------------------


def test_quarantine_is_replaced_and_emptied_when_the_file_is_corrected(lake: str):
    load(lake, FORMER, rejects=5)
    assert quarantined(lake) == 5
    load(lake, FORMER, rejects=2)
    assert quarantined(lake) == 2
    load(lake, FORMER, rejects=0)
    assert quarantined(lake) == 0


def test_quarantine_is_not_created_when_nothing_is_rejected(lake: str):
    load(lake, FORMER)
    assert not DeltaTable.is_deltatable(f"{lake}/quarantine")


def test_other_days_stay_in_quarantine_when_one_is_corrected(lake: str):
    load(lake, FORMER, rejects=5)
    load(lake, FORMER, rejects=3, day="2026-03-02")
    load(lake, FORMER)
    assert quarantined(lake) == 3


# --- two attempts at once -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fingerprint", ["same", ""])
def test_rows_are_those_of_one_attempt_when_threads_load_one_window(lake: str, fingerprint: str):
    load(lake, FORMER)
    with ThreadPoolExecutor(4) as threads:
        receipts = list(threads.map(lambda _: load(lake, NEW, fingerprint=fingerprint), range(4)))
    assert rows_of(lake) == exact(NEW)
    assert {receipt.ledger.written for receipt in receipts} == {500}
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert table.receipt(Window.of_day(DAY)).load_id in {receipt.load_id for receipt in receipts}


@pytest.mark.parametrize("there_before", [True, False])
def test_only_one_attempt_commits_when_all_began_before_it(lake: str, there_before: bool):
    former = load(lake, FORMER, fingerprint="former").load_id if there_before else ""
    loads = [load(lake, NEW, fingerprint="same", former=former) for _ in range(2)]
    with ThreadPoolExecutor(4) as threads:
        loads += threads.map(lambda _: load(lake, NEW, fingerprint="same", former=former), range(4))
    assert [receipt.repeated for receipt in loads] == [False] + [True] * 5
    assert {receipt.load_id for receipt in loads} == {loads[0].load_id}
    assert receipts_of(f"{lake}/rows", limit=1) == loads[:1]
    assert len(receipts_of(f"{lake}/rows")) == 1 + there_before


def test_the_rows_are_written_again_when_the_attempt_began_after_their_commit(lake: str):
    first = load(lake, NEW, fingerprint="same", former="")
    second = load(lake, NEW, fingerprint="same", former=first.load_id)
    assert not second.repeated
    assert receipts_of(f"{lake}/rows") == [second, first]


def test_rows_are_those_of_one_attempt_when_threads_create_the_table_with_other_rows(lake: str):
    """The first commit of a table is a race of its own; each attempt has rows of its own, which must not mix."""
    loads = [[(number, "1.00", f"attempt {attempt}") for number in range(20)] for attempt in range(3)]
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda rows: load(lake, rows), loads))
    assert rows_of(lake) in [exact(rows) for rows in loads]


def test_rows_of_each_day_are_kept_when_threads_load_different_days(lake: str):
    days = [f"2026-03-{day:02d}" for day in range(1, 5)]
    with ThreadPoolExecutor(4) as threads:
        receipts = list(threads.map(lambda day: load(lake, FORMER, day=day), days))
    assert [receipt.window for receipt in receipts] == days
    assert all(rows_of(lake, day=day) == exact(FORMER) for day in range(1, 5))
    table = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA)
    assert [table.receipt(Window.of_day(day)) for day in days] == receipts


def test_rows_are_those_of_one_attempt_when_processes_load_one_window(lake: str):
    load(lake, FORMER)
    attempts = [process(lake, NEW, fingerprint="same", rejects=1) for _ in range(2)]
    answers = [(*attempt.communicate(timeout=120), attempt.returncode) for attempt in attempts]
    assert [code for *_, code in answers] == [0, 0], [errors for _, errors, _ in answers]
    assert rows_of(lake) == exact(NEW)
    assert quarantined(lake) == 1


# --- kill -9 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", ["after quarantine", "in mid upload", "after staging"])
@pytest.mark.parametrize("former", [True, False])
def test_reader_sees_the_former_rows_and_the_retry_is_exact_when_killed(lake: str, stop: str, former: bool):
    if former:
        load(lake, FORMER)
    killed = process(lake, NEW, fingerprint="f", rejects=2, stop=stop)
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, errors
    if former:
        assert rows_of(lake) == exact(FORMER)
        assert len(receipts_of(f"{lake}/rows")) == 1
    elif DeltaTable.is_deltatable(f"{lake}/rows"):
        assert rows_of(lake) == []
    receipt = load(lake, NEW, fingerprint="f", rejects=2)
    assert rows_of(lake) == exact(NEW)
    assert quarantined(lake) == 2
    assert receipt.ledger == Ledger(read=502, written=500, rejected=2)
    assert len(receipts_of(f"{lake}/rows")) == 1 + former


def test_retry_finds_its_receipt_when_killed_after_the_commit(lake: str):
    load(lake, FORMER)
    killed = process(lake, NEW, fingerprint="f", stop="after commit")
    _, errors = killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL, errors
    assert rows_of(lake) == exact(NEW)
    receipt = LakeTable(f"{lake}/rows", dataset="sales", schema=SCHEMA).receipt(Window.of_day(DAY))
    assert receipt is not None
    assert (receipt.fingerprint, receipt.ledger) == ("f", Ledger(read=500, written=500))


# --- files ----------------------------------------------------------------------------------------------------------


def test_file_is_the_same_when_uploaded_in_pieces(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tallyclerk.sinks.lake_files.PIECE_BYTES", 1000)
    source = tmp_path / "pieces"
    source.write_bytes(bytes(range(256)) * 100)
    files = LakeFiles(lake)
    assert files.upload(source, "a/b c/pieces=1") == 25_600
    parts = urlsplit(lake)
    with hdfs_native.Client(f"hdfs://{parts.netloc}").read(f"{parts.path}/a/b c/pieces=1") as stored:
        assert stored.read() == source.read_bytes()


def test_file_is_gone_when_deleted_and_missing_ones_are_fine(lake: str, tmp_path: Path):
    files = LakeFiles(lake)
    (tmp_path / "text").write_text("käse", encoding="utf-8")
    files.upload(tmp_path / "text", "text")
    assert files.read_text("text") == "käse"
    files.delete("text")
    files.delete("text")
    assert files.read_text("text") is None
