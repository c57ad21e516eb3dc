"""What makes reading a CSV file cheap must not change its account: counts of the engine, UUIDs judged after writing, hashes."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.sources import csv_account, csv_keys
from tallyclerk.sources.csv_files import CsvFiles
from tallyclerk.sources.csv_query import CsvQuery

EVENTS = """\
apiVersion: v3.1.0
kind: DataContract
id: events
name: events
version: 1.0.0
status: active
servers:
  - server: landing
    type: custom
    format: csv
    path: events_{date}.csv
    delimiter: ","
schema:
  - name: events
    properties:
      - {name: id, logicalType: string, physicalType: uuid, logicalTypeOptions: {format: uuid}, primaryKey: true, required: true}
      - {name: parent, logicalType: string, physicalType: uuid, logicalTypeOptions: {format: uuid}}
      - {name: amount, logicalType: number, physicalType: "decimal(9,2)", required: true}
      - name: at
        logicalType: timestamp
        physicalType: timestamp
        logicalTypeOptions: {format: "yyyy-MM-dd HH:mm:ss", timezone: false, defaultTimezone: Etc/UTC}
"""
DAY = Window.of_day("2026-03-01")
HEADER = "id,parent,amount,at\n"
FIRST, SECOND = "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "0db7bef0-59b7-540b-b780-8a9e2e8ed89e"
# as long as a UUID, and none
FALSE_UUID = "6ba7b810-9dad-11d1-80b4-00c04fd430cg"


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    path = tmp_path_factory.mktemp("contract") / "events.odcs.yaml"
    path.write_text(EVENTS, encoding="utf-8")
    return load_contract(path)


def load(contract: Contract, folder: Path, text: str, **options) -> Extract:
    (folder / "events_2026-03-01.csv").write_text(text, encoding="utf-8")
    spool = folder / "spool"
    spool.mkdir()
    source = CsvFiles(contract=contract, dialect=contract.csv, folder=folder, max_rejected_ratio=1.0, **options)
    return source.extract(DAY, spool)


def ids_of(extract: Extract) -> list[str]:
    return sorted(id_ for file in extract.files for id_ in pq.read_table(file.path, columns=["id"])["id"].to_pylist())


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each reading of a file: what was asked of the engine."""
    asked: list[str] = []
    copy_counting, counts = csv_account.copy_counting, CsvQuery.counts

    def copying(connection, query: str, target: Path):
        asked.append("rows")
        return copy_counting(connection, query, target)

    def counting(self: CsvQuery, path: str) -> str:
        asked.append("counts")
        return counts(self, path)

    monkeypatch.setattr(csv_account, "copy_counting", copying)
    monkeypatch.setattr(CsvQuery, "counts", counting)
    return asked


@pytest.mark.parametrize("filters", [(), ("amount > 1",), ("amount > 1", "parent IS NULL")])
def test_file_is_read_once_when_each_line_is_a_record_that_fits(
    contract: Contract, tmp_path: Path, readings: list[str], filters: tuple[str, ...]
):
    text = HEADER + f"{FIRST},,0.50,2026-03-01 10:00:00\n{SECOND},,1.50,\n"
    extract = load(contract, tmp_path, text, filters=filters)
    written = 1 if filters else 2
    assert extract.ledger == Ledger(read=2, written=written, filtered=2 - written)
    assert readings == ["rows"]


@pytest.mark.parametrize(
    ("condition", "written"), [("amount > (SELECT 1)", 1), ("amount IN (SELECT 1.5)", 1), ("1 = 0", 0), ("1 = 1", 2)]
)
def test_ledger_is_exact_when_a_filter_makes_the_engine_plan_other_steps(
    contract: Contract, tmp_path: Path, condition: str, written: int
):
    text = HEADER + f"{FIRST},,0.50,\n{SECOND},,1.50,\n{FALSE_UUID},,1.50,\n{FIRST},,1.50\n"
    extract = load(contract, tmp_path, text, filters=(condition,))
    assert extract.ledger == Ledger(read=4, written=written, rejected=2, filtered=2 - written)


def test_record_is_rejected_and_not_filtered_when_its_uuid_only_has_the_length(contract: Contract, tmp_path: Path):
    text = HEADER + f"{FALSE_UUID},,0.50,\n{SECOND},,1.50,\n"
    extract = load(contract, tmp_path, text, filters=("amount > 1",))
    assert extract.ledger == Ledger(read=2, written=1, rejected=1)


def test_timestamp_is_the_same_instant_when_it_is_stored(contract: Contract, tmp_path: Path):
    text = HEADER + f"{FIRST},,1.00,0001-01-01 00:00:00\n{SECOND},,1.00,9999-12-31 23:59:59\n"
    extract = load(contract, tmp_path, text)
    stored = pq.read_table(extract.files[0].path).sort_by("amount").sort_by("at")["at"]
    assert str(stored.type) == "timestamp[us, tz=UTC]"
    assert [value.as_py().isoformat() for value in stored] == ["0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59+00:00"]


@pytest.mark.parametrize("sorted_rows", [0, 20_000_000])
@pytest.mark.parametrize("repeated", [0, 1])
def test_repeated_key_is_found_when_hashes_are_sorted_or_counted(
    contract: Contract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sorted_rows: int, repeated: int
):
    monkeypatch.setattr(csv_keys, "SORTED_ROWS", sorted_rows)
    rows = [f"{number:08x}{FIRST[8:]},,1.00,\n" for number in range(3_000)]
    # the same UUID in another case is the same key
    text = HEADER + "".join(rows) + (rows[7].upper() if repeated else "")
    extract = load(contract, tmp_path, text, deduplicate_by=("id",))
    assert extract.ledger == Ledger(read=3_000 + repeated, written=3_000, deduplicated=repeated)


_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_plain = st.uuids().map(str)
_odd = st.one_of(
    _plain.map(str.upper),
    _plain.map(lambda text: "{" + text + "}"),
    _plain.map(lambda text: text.replace("-", "")),
    # any one of the 36 places, by a character of one or two bytes
    st.tuples(_plain, st.integers(0, 35), st.sampled_from("g-/:`A_ é")).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :]
    ),
    # two places exchanged: a dash may move
    st.tuples(_plain, st.integers(0, 34)).map(
        lambda parts: parts[0][: parts[1]] + parts[0][parts[1] + 1] + parts[0][parts[1]] + parts[0][parts[1] + 2 :]
    ),
    st.text(alphabet="0a-é", min_size=34, max_size=37),
    st.just(""),
)


@settings(max_examples=25, deadline=None)
@given(
    ids=st.lists(st.one_of(_plain, _plain, _odd), max_size=8),
    parents=st.lists(st.one_of(st.just(""), _plain, _odd), min_size=8, max_size=8),
)
@example(ids=[FIRST, SECOND], parents=[""] * 8)
@example(ids=[FIRST, FALSE_UUID], parents=["", SECOND] * 4)
@example(ids=[FIRST, SECOND.upper()], parents=[""] * 8)
@example(ids=[FIRST, "é" * 18], parents=[""] * 8)
def test_uuids_pass_as_by_their_pattern_when_damage_is_random(contract: Contract, ids: list[str], parents: list[str]):
    records = list(zip(ids, parents[: len(ids)], strict=True))
    good = [id_ for id_, parent in records if _UUID.fullmatch(id_) and (not parent or _UUID.fullmatch(parent))]
    with TemporaryDirectory() as folder:
        extract = load(contract, Path(folder), HEADER + "".join(f"{id_},{parent},1.00,\n" for id_, parent in records))
        assert extract.ledger == Ledger(read=len(ids), written=len(good), rejected=len(ids) - len(good))
        assert ids_of(extract) == sorted(map(str.lower, good))
