"""What makes reading a CSV file cheap must not change its account: plain files in their types, counts of the engine, hashes."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import DamagedFileError
from tallyclerk.sources import csv_account, csv_engine, csv_keys, csv_plain
from tallyclerk.sources.csv_files import CsvFiles
from tallyclerk.sources.csv_query import CsvQuery
from tallyclerk.sources.landing_file import open_landing_file

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
    (folder / "events_2026-03-01.csv").write_text(text, encoding="utf-8", newline="")
    spool = folder / "spool"
    spool.mkdir()
    source = CsvFiles(contract=contract, dialect=contract.csv, folder=folder, max_rejected_ratio=1.0, **options)
    return source.extract(DAY, spool)


def ids_of(extract: Extract) -> list[str]:
    return sorted(id_ for file in extract.files for id_ in pq.read_table(file.path, columns=["id"])["id"].to_pylist())


def answer(extract: Extract) -> tuple:
    """Everything that an extract says of its rows, comparable."""
    tables = [pq.read_table(file.path).to_pylist() for file in extract.files]
    rejects = pq.read_table(extract.rejects.path).drop_columns("rejected_at").to_pylist() if extract.rejects else []
    facts = [{name: fact for name, fact in each.items() if name != "uri"} for each in extract.sources]
    rows = sorted(repr(row) for table in tables for row in table)
    return extract.ledger, rows, sorted(repr({**each, "source": ""}) for each in rejects), facts, extract.fingerprint


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Each reading of a file: what was asked of the engine."""
    asked: list[str] = []
    copy_counting, counts = csv_account.copy_counting, CsvQuery.counts

    def copying(connection, query: str, target: Path, **options):
        asked.append("plain" if options else "text")
        return copy_counting(connection, query, target, **options)

    def counting(self: CsvQuery, path: str) -> str:
        asked.append("counts")
        return counts(self, path)

    for module in (csv_account, csv_plain):
        monkeypatch.setattr(module, "copy_counting", copying)
    monkeypatch.setattr(CsvQuery, "counts", counting)
    return asked


@pytest.mark.parametrize(("amount", "reading"), [("1.50", "plain"), ('"1.50"', "text")])
@pytest.mark.parametrize("filters", [(), ("amount > 1",), ("amount > 1", "parent IS NULL")])
def test_file_is_read_once_when_each_line_is_a_record_that_fits(
    contract: Contract, tmp_path: Path, readings: list[str], filters: tuple[str, ...], amount: str, reading: str
):
    text = HEADER + f"{FIRST},,0.50,2026-03-01 10:00:00\n{SECOND},,{amount},\n"
    extract = load(contract, tmp_path, text, filters=filters)
    written = 1 if filters else 2
    assert extract.ledger == Ledger(read=2, written=written, filtered=2 - written)
    assert readings == [reading]


def test_lines_read_so_far_are_told_while_a_plain_file_is_read(contract: Contract, tmp_path: Path):
    path, told = tmp_path / "events_2026-03-01.csv", list[int]()
    path.write_text(HEADER + "".join(f"{number:08x}{FIRST[8:]},,1.00,\n" for number in range(50_000)))
    file = open_landing_file(path, encoding="UTF-8", directory=tmp_path)
    with csv_engine.connect(tmp_path) as connection:
        query = CsvQuery(contract, contract.csv)
        csv_account.read_file(connection, query, file, tmp_path / "rows.parquet", told.append)
    assert told == sorted(told)
    assert len(set(told)) > 2
    assert told[-1] == file.lines == 50_001


@pytest.mark.parametrize(
    ("record", "fits"),
    [
        pytest.param(f"{SECOND},,1.50,2026-03-01 10:00:00", None, id="plain"),
        pytest.param(f"{SECOND},{FIRST},.5,2026-03-01 10:00:00.500", None, id="plain, unusual"),
        pytest.param(f"{SECOND.upper()},,1.50,", True, id="UUID in capitals"),
        pytest.param(f"{FALSE_UUID},,1.50,", False, id="no UUID"),
        pytest.param(f"{SECOND}, ,1.50,", False, id="blank for a UUID"),
        pytest.param(f"{SECOND},, 1.50,", False, id="blank before a number"),
        pytest.param(f"{SECOND},,1.50\t,", False, id="tab behind a number"),
        pytest.param(f"{SECOND},,15e-1,", False, id="exponent"),
        pytest.param(f"{SECOND},,+1.50,", False, id="plus"),
        pytest.param(f"{SECOND},,1.505,", False, id="too fine"),
        pytest.param(f"{SECOND},,12345678.00,", False, id="too large"),
        pytest.param(f"{SECOND},,1.50,2026-03-01T10:00:00", False, id="T in a timestamp"),
        pytest.param(f"{SECOND},,1.50,2026-03-01 10:00", False, id="no seconds"),
        pytest.param(f"{SECOND},,1.50,2026-03-01", False, id="no time"),
        pytest.param(f"{SECOND},,1.50,2026-03-01 24:00:00.0", False, id="hour 24"),
        pytest.param(f"{SECOND},,1.50,2026-03-01 10:00:00Z", False, id="zone"),
    ],
)
def test_value_is_judged_as_text_when_a_file_is_not_plain(
    contract: Contract, tmp_path: Path, readings: list[str], record: str, fits: bool | None
):
    extract = load(contract, tmp_path, HEADER + f"{FIRST},,0.50,2026-03-01 10:00:00\n{record}\n")
    assert extract.ledger == Ledger(read=2, written=1 if fits is False else 2, rejected=int(fits is False))
    assert ("text" in readings) == (fits is not None)


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


def test_record_is_rejected_when_its_year_is_in_no_calendar_and_the_file_is_plain(
    contract: Contract, tmp_path: Path, readings: list[str]
):
    extract = load(contract, tmp_path, HEADER + f"{FIRST},,0.50,0000-12-31 10:00:00\n{SECOND},,1.50,\n")
    assert extract.ledger == Ledger(read=2, written=1, rejected=1)
    assert readings == ["plain"]


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


_numbers = st.one_of(
    st.decimals(-9_999_999, 9_999_999, places=2, allow_nan=False).map(str), st.text("-.05", max_size=6)
)
_times = st.one_of(
    st.datetimes(allow_imaginary=False).map(lambda at: at.replace(microsecond=0).isoformat(" ")),
    st.datetimes(allow_imaginary=False).map(lambda at: at.isoformat(" ")),
)


def _mistaken(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One character of a value is another, or one more."""
    return st.tuples(values, st.integers(0, 40), st.sampled_from("0-.:/, eEtTZx+_'\t\r\"g\u00a0é"), st.booleans()).map(
        lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + parts[3] :]
    )


def _mostly(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(values, values, values, _mistaken(values))


_lines = st.one_of(
    st.tuples(_mostly(_plain), _mostly(st.one_of(st.just(""), _plain)), _mostly(_numbers), _mostly(_times)).map(
        ",".join
    ),
    st.sampled_from(["", " ", f"{FIRST},,1.00", f"{FIRST},,1.00,,"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(_lines, max_size=5), newline=st.sampled_from(["\n", "\n", "\r\n"]), last=st.booleans())
@example(lines=[f"{FIRST},,1.00,\r{SECOND},,1.00,", ""], newline="\r\n", last=True)
@example(lines=[f"{FIRST},,1.00,", ""], newline="\n", last=True)
@example(lines=[f"{FIRST},,1.00,2026-03-01 10:00", f"{SECOND},,1.00,2026-03-01 10:00:00"], newline="\n", last=False)
def test_answer_is_that_of_the_text_when_a_file_may_be_plain(
    contract: Contract, lines: list[str], newline: str, last: bool
):
    text = newline.join([HEADER.strip(), *lines]) + newline * last
    found = []
    for is_plain in (True, False):
        with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
            if not is_plain:
                patch.setattr(csv_account, "copy_plain", lambda *arguments: None)
            try:
                found.append(answer(load(contract, Path(folder), text)))
            except DamagedFileError as error:
                found.append(str(error).partition(": ")[2])
    assert found[0] == found[1]
