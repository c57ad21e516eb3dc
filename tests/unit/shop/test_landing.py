import csv
import hashlib
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
from include.shop.landing import export_days, file_name
from include.shop.manifest import MANIFEST_NAME
from include.shop.trading_days import TradingDays, cycle_begin

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
        for position, row in enumerate(table.slice(630_000, 20_000).to_pylist(), start=630_000)
        if row["transaction_timestamp"].date() == date(2017, 6, 7)
    ]
    found = sales_of(path)
    assert len(found) == len(expected) == 4061
    for line, (position, row) in zip(found, expected, strict=True):
        assert line["transaction_id"] == str(uuid5(source.TRANSACTION_NAMESPACE, f"0:{position}"))
        assert line["transaction_timestamp"] == str(
            row["transaction_timestamp"] + (date(2026, 6, 10) - date(2017, 6, 7))
        )
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


def test_a_days_file_is_the_same_for_ever(days: TradingDays, tmp_path: Path) -> None:
    """Digests of files made with pandas and uuid: whoever makes this fail has changed what the shop sold."""
    for day, digest in {
        date(2026, 6, 10): "fa512a7f04631f87938e85a1ba15e0579e2ff8008ad925229b4f5587ee73296b",
        date(2025, 12, 31): "46411ce9360945bf9833676fe176b5557658d7adfac255e2b66c225a7eed03a3",
    }.items():
        export_days(TradingDays(day + timedelta(days=1)), tmp_path, 1)
        assert hashlib.sha256((tmp_path / file_name(day)).read_bytes()).hexdigest() == digest


def test_a_days_file_is_the_same_whatever_today(tmp_path: Path) -> None:
    seen: dict[str, set[bytes]] = {}
    for today in (date(2027, 1, 4), date(2027, 1, 5), date(2027, 1, 7), date(2027, 1, 11)):  # a new cycle and week
        folder = tmp_path / str(today)
        export_days(TradingDays(today), folder, 9)
        for name, content in contents(folder).items():
            seen.setdefault(name, set()).add(content)
    assert len(seen) == 16
    assert all(len(found) == 1 for found in seen.values())


def test_a_closed_day_has_a_file_of_a_header_alone(tmp_path: Path) -> None:
    export = export_days(TradingDays(date(2026, 12, 30)), tmp_path, 3)
    assert (tmp_path / "transactions_2026-12-28.csv").read_text() == f"{HEADER}\n"
    assert [len(sales_of(tmp_path / name)) > 0 for name in export.written] == [True, False, True]
    assert export_days(TradingDays(date(2026, 12, 30)), tmp_path, 3).written == ()


def test_ids_are_unique_over_the_dates_of_three_cycles(tmp_path: Path) -> None:
    for cycle in (-1, 0, 1):
        export_days(TradingDays(cycle_begin(cycle) + timedelta(days=3)), tmp_path, 6)
    ids = [row["transaction_id"] for path in tmp_path.glob("*.csv") for row in sales_of(path)]
    assert len(contents(tmp_path)) == 18
    assert len(set(ids)) == len(ids)
    assert all(UUID(text).version == 5 and UUID(text).variant == "specified in RFC 4122" for text in ids)


def test_ids_are_unique_over_all_sales_of_a_cycle_and_two_of_the_next() -> None:
    days = [cycle_begin(0) + timedelta(days=number) for number in range(366)]
    with source.connect_to_sales(days) as connection:
        found = connection.execute("SELECT count(*), count(DISTINCT transaction_id) FROM sales").fetchall()
    assert found == [(1_465_675 + 4077 + 4106,) * 2]


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


@pytest.mark.parametrize("later", [1, 7, 400], ids=["next_day", "next_week", "next_year"])
def test_files_are_only_added_when_today_moves_on(later: int, days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 2)
    foreign = tmp_path / "transactions_1999-01-01.csv"
    foreign.write_text("not ours")
    before = state(tmp_path)
    moved = replace(days, today=days.today + timedelta(days=later))
    export = export_days(moved, tmp_path, 1)
    assert (export.written, export.removed) == ((file_name(moved.yesterday),), ())
    after = state(tmp_path)
    del before[MANIFEST_NAME]
    assert before.items() <= after.items()
    assert len(contents(tmp_path)) == 4
    assert foreign.read_text() == "not ours"


def test_an_old_file_is_mended_when_changed_and_given_up_when_gone(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 3)
    before = contents(tmp_path)
    first, second, _ = sorted(before)
    (tmp_path / first).write_bytes(b"cut")
    (tmp_path / second).unlink()
    later = replace(days, today=days.today + timedelta(days=500))
    export = export_days(later, tmp_path, 1)
    assert (export.written, export.removed) == ((first, file_name(later.yesterday)), (second,))
    assert {name: contents(tmp_path).get(name) for name in before} == {**before, second: None}


def test_no_file_of_a_day_to_come_stays_when_today_is_set_back(days: TradingDays, tmp_path: Path) -> None:
    export_days(days, tmp_path, 3)
    earlier = replace(days, today=days.today - timedelta(days=1))
    assert export_days(earlier, tmp_path, 1).removed == (file_name(earlier.today),)
    assert sorted(contents(tmp_path)) == ["transactions_2026-06-08.csv", "transactions_2026-06-09.csv"]


def test_no_content_of_an_earlier_format_stays(days: TradingDays, tmp_path: Path) -> None:
    """As the shop left it whose dates moved each Monday: a stamp with a shift, the sales of other days."""
    day, older, foreign = days.yesterday, date(2026, 1, 1), tmp_path / "transactions_1999-01-01.csv"
    for name in (file_name(day), file_name(older), foreign.name):
        (tmp_path / name).write_text("of another day")
    stamp = {"shift_days": 3094, "package_version": "0.1.0", "format_version": 1}
    files = {file_name(day): 14, file_name(older): 14, file_name(days.today): 14}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({"stamp": stamp, "files": files}))
    export = export_days(days, tmp_path, 1)
    assert (export.written, export.removed) == ((file_name(older), file_name(day)), (file_name(days.today),))
    found = contents(tmp_path)
    assert found.pop(foreign.name) == b"of another day"
    export_days(days, tmp_path / "fresh", 1)
    export_days(TradingDays(date(2026, 1, 2)), tmp_path / "old", 1)
    assert found == contents(tmp_path / "fresh") | contents(tmp_path / "old")


def test_half_done_work_is_finished_when_the_export_was_killed(
    days: TradingDays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_days(days, tmp_path, 3)
    next_week = replace(days, today=days.today + timedelta(days=7))
    real, calls = landing.write_whole, []

    def die_at_the_third(path: Path, content: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(landing, "write_whole", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        export_days(next_week, tmp_path, 4)
    monkeypatch.undo()
    export_days(next_week, tmp_path, 4)
    export_days(days, tmp_path / "fresh", 3)
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
    for text in ("{}", "[]", "half", '{"stamp": {}, "files": {"passwords": 1}}'):
        (tmp_path / MANIFEST_NAME).write_text(text)
        with pytest.raises(ShopError, match="remove it"):
            export_days(days, tmp_path, 1)
