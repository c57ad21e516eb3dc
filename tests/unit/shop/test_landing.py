import csv
import json
import re
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID, uuid5

import pyarrow.parquet
import pytest

from include.shop import landing, source
from include.shop.exceptions import ShopError
from include.shop.landing import MANIFEST_NAME, export_days, file_name
from include.shop.trading_days import TradingDays

HEADER = (
    "transaction_id,household_id,store_id,basket_id,product_id,quantity,sales_value,retail_disc,coupon_disc,"
    "coupon_match_disc,week,transaction_timestamp"
)


def sales_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("transactions_*.csv")}


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.iterdir()}


def test_a_file_holds_the_source_rows_of_its_day(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 1)
    path = tmp_path / "transactions_2026-06-10.csv"
    assert path.read_text().splitlines()[0] == HEADER

    table = pyarrow.parquet.read_table(source.parquet_file("transactions"))
    expected = [
        (position, row)
        for position, row in enumerate(table.slice(1_390_000).to_pylist(), start=1_390_000)
        if row["transaction_timestamp"].date() == date(2017, 12, 20)
    ]
    found = sales_of(path)
    assert len(found) == len(expected) == 3925
    for line, (position, row) in zip(found, expected, strict=True):
        assert line["transaction_id"] == str(uuid5(source.TRANSACTION_NAMESPACE, str(position)))
        assert line["transaction_timestamp"] == str(row["transaction_timestamp"] + days.shift)
        for name in ("household_id", "store_id", "basket_id", "product_id", "quantity", "week"):
            assert line[name] == str(row[name])
        for name in ("sales_value", "retail_disc", "coupon_disc", "coupon_match_disc"):
            assert re.fullmatch(r"\d+\.\d\d", line[name])
            assert Decimal(line[name]) == Decimal(row[name]).quantize(Decimal("0.01"))


def test_files_cover_the_last_complete_days_and_never_today(days: TradingDays, tmp_path: Path) -> None:
    export = export_days(days, tmp_path, 3)
    names = [f"transactions_2026-06-{day:02}.csv" for day in (8, 9, 10)]
    assert sorted(contents(tmp_path)) == sorted(export.written) == names
    assert export.rows == sum(len(sales_of(tmp_path / name)) for name in names)


def test_ids_are_unique_version_5_and_the_same_whatever_today(tmp_path: Path) -> None:
    today = date(2026, 6, 11)
    folders = [tmp_path / "now", tmp_path / "later"]
    for folder, now in zip(folders, (today, today + timedelta(weeks=60)), strict=True):
        export_days(TradingDays(now), folder, 2)
    first, second = (
        [row["transaction_id"] for path in sorted(folder.glob("*.csv")) for row in sales_of(path)] for folder in folders
    )
    assert first == second and len(set(first)) == len(first)
    assert all(UUID(text).version == 5 and UUID(text).variant == "specified in RFC 4122" for text in first)


def test_nothing_is_written_when_run_again(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 3)
    before = state(tmp_path)
    again = export_days(days, tmp_path, 3)
    assert (again.written, again.removed, len(again.kept), again.rows) == ((), (), 3, 0)
    assert state(tmp_path) == before


def test_a_missing_and_a_changed_file_are_repaired(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 3)
    before = contents(tmp_path)
    first, second, third = sorted(before)
    (tmp_path / first).unlink()
    (tmp_path / second).write_bytes(before[second][:-1])
    untouched = state(tmp_path)[third]
    assert export_days(days, tmp_path, 3).written == (first, second)
    assert contents(tmp_path) == before
    assert state(tmp_path)[third] == untouched


def test_more_days_are_added_and_fewer_remove_none(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 2)
    assert len(export_days(days, tmp_path, 4).written) == 2
    export_days(days, tmp_path, 1)
    assert len(contents(tmp_path)) == 4


def test_one_file_is_added_when_the_next_day_comes_within_the_week(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 2)
    tomorrow = replace(days, today=days.today + timedelta(days=1))
    assert export_days(tomorrow, tmp_path, 2).written == (file_name(days.today),)
    assert len(contents(tmp_path)) == 3


def test_no_file_of_a_day_to_come_stays_when_today_is_set_back(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 3)
    earlier = replace(days, today=days.today - timedelta(days=1))
    assert export_days(earlier, tmp_path, 1).removed == (file_name(earlier.today),)
    assert sorted(contents(tmp_path)) == ["transactions_2026-06-08.csv", "transactions_2026-06-09.csv"]


def test_no_file_of_the_old_shift_stays_when_the_shift_changes(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 9)
    old = contents(tmp_path)
    foreign = tmp_path / "transactions_1999-01-01.csv"
    foreign.write_text("not ours")
    next_week = replace(days, today=days.today + timedelta(days=7))
    export = export_days(next_week, tmp_path, 8)
    assert sorted(contents(tmp_path)) == sorted([foreign.name, *map(file_name, next_week.complete_days(8))])
    assert foreign.read_text() == "not ours"
    shared = old.keys() & set(export.written)
    assert shared and all(contents(tmp_path)[name] != old[name] for name in shared)


def test_half_done_work_is_finished_when_the_export_was_killed(
    days: TradingDays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_days(days, tmp_path, 3)
    next_week = replace(days, today=days.today + timedelta(days=7))
    real, calls = landing._write_whole, []

    def die_at_the_third(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(landing, "_write_whole", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        export_days(next_week, tmp_path, 4)
    monkeypatch.undo()
    export_days(next_week, tmp_path, 4)
    export_days(next_week, tmp_path / "fresh", 4)
    assert contents(tmp_path) == contents(tmp_path / "fresh")


def test_a_foreign_file_in_the_way_is_refused_and_left_alone(days: TradingDays, tmp_path: Path) -> None:
    path = tmp_path / file_name(days.yesterday)
    path.write_text("somebody's")
    with pytest.raises(ShopError, match="move it away"):
        export_days(days, tmp_path, 1)
    assert path.read_text() == "somebody's"


def test_own_files_are_recognised_when_the_manifest_is_lost(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 2)
    manifest = (tmp_path / MANIFEST_NAME).read_text()
    (tmp_path / MANIFEST_NAME).unlink()
    export_days(days, tmp_path, 2)
    assert json.loads((tmp_path / MANIFEST_NAME).read_text()) == json.loads(manifest)


def test_a_broken_manifest_is_refused(days: TradingDays, tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text("{}")
    with pytest.raises(ShopError, match="remove it"):
        export_days(days, tmp_path, 1)
