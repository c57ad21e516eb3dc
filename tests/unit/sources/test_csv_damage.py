"""Damaged CSV files: an exact ledger and every bad record named, or a refusal before any row is used.

Expected values are written by hand from the files' text.
"""

from __future__ import annotations

import csv
import gzip
import io
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import DamagedFileError, HeaderError, NoInputError, SpecError, TooManyRejectsError
from tallyclerk.sources.csv_files import CsvFiles

SALES = """\
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.0.0
status: active
servers:
  - server: landing
    type: custom
    format: csv
    path: sales_{date}.csv*
    delimiter: ","
schema:
  - name: sales
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true, logicalTypeOptions: {minimum: 0}}
      - {name: sold_on, logicalType: date, physicalType: date, required: true}
      - {name: note, logicalType: string, physicalType: text}
"""
DAY = Window.of_day("2026-03-01")
HEADER = "id,amount,sold_on,note\n"
GOOD = ("1,1.50,2026-03-01,a\n", "2,2.50,2026-03-01,b\n", "3,3.50,2026-03-01,c\n")
NAME = "sales_2026-03-01.csv"


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    path = tmp_path_factory.mktemp("contract") / "sales.odcs.yaml"
    path.write_text(SALES, encoding="utf-8")
    return load_contract(path)


class Landing:
    """A landing folder, and the loads of its one day."""

    def __init__(self, contract: Contract, folder: Path) -> None:
        self.contract, self.folder = contract, folder
        self._loads = 0

    def deliver(self, content: str | bytes, name: str = NAME) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return path

    def load(self, content: str | bytes | None = None, *, name: str = NAME, mode: str = "DROPMALFORMED", **options):
        """Extract the day; ``dialect`` options are passed with ``dialect=``."""
        if content is not None:
            self.deliver(content, name)
        self._loads += 1
        spool = self.folder / f"spool-{self._loads}"
        spool.mkdir()
        dialect = replace(self.contract.csv, parse_mode=mode, **options.pop("dialect", {}))
        source = CsvFiles(contract=self.contract, dialect=dialect, folder=self.folder, load_id="attempt", **options)
        return source.extract(DAY, spool)


@pytest.fixture
def landing(contract: Contract, tmp_path: Path) -> Landing:
    return Landing(contract, tmp_path)


def rows_of(extract: Extract) -> list[tuple]:
    """The written rows, ordered by id, dates as text."""
    rows = [tuple(row.values()) for file in extract.files for row in pq.read_table(file.path).to_pylist()]
    told = [(id_, amount, sold_on.isoformat(), note) for id_, amount, sold_on, note in rows]
    return sorted(told, key=lambda row: (*row[:3], row[3] or ""))


def ids_of(extract: Extract) -> list[int]:
    return [row[0] for row in rows_of(extract)]


def rejects_of(extract: Extract) -> list[tuple[int, str, str, str]]:
    """(record_number, column, reason, raw_text), by record."""
    if extract.rejects is None:
        return []
    rows = pq.read_table(extract.rejects.path).to_pylist()
    return sorted((row["record_number"], row["column"], row["reason"], row["raw_text"]) for row in rows)


def with_second(bad: str) -> str:
    """A file of three records whose second is ``bad`` (which ends in a newline)."""
    return HEADER + GOOD[0] + bad + GOOD[2]


# --- one bad record -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "column", "reason"),
    [
        pytest.param("2,2.50,2026-03-01", "note", "columns", id="too few columns"),
        pytest.param("2", "amount", "columns", id="one column"),
        pytest.param("2,2.50,2026-03-01,b,c", "", "columns", id="one column too many"),
        pytest.param("2,2.50,2026-03-01,b,c,d,e,f", "", "columns", id="many columns too many"),
        pytest.param("abc,2.50,2026-03-01,b", "id", "type", id="text for bigint"),
        pytest.param("1.6,2.50,2026-03-01,b", "id", "type", id="fraction for bigint"),
        pytest.param("1e3,2.50,2026-03-01,b", "id", "type", id="exponent for bigint"),
        pytest.param(" 2,2.50,2026-03-01,b", "id", "type", id="blank before bigint"),
        pytest.param("0x10,2.50,2026-03-01,b", "id", "type", id="hexadecimal for bigint"),
        pytest.param("1_000,2.50,2026-03-01,b", "id", "type", id="underscore in bigint"),
        pytest.param("9223372036854775808,2.50,2026-03-01,b", "id", "type", id="bigint overflow"),
        pytest.param("2,1e3,2026-03-01,b", "amount", "type", id="exponent for decimal"),
        pytest.param("2, 7 ,2026-03-01,b", "amount", "type", id="blanks around decimal"),
        pytest.param("2,1.005,2026-03-01,b", "amount", "type", id="too fine a decimal"),
        pytest.param("2,12345678901.00,2026-03-01,b", "amount", "type", id="decimal overflow"),
        pytest.param("2,NaN,2026-03-01,b", "amount", "type", id="not a number"),
        pytest.param("2,-0.01,2026-03-01,b", "amount", "rule:amount.minimum", id="below the minimum"),
        pytest.param("2,,2026-03-01,b", "amount", "required", id="empty required column"),
        pytest.param("2,2.50,2026-02-30,b", "sold_on", "type", id="no such day"),
        pytest.param("2,2.50,01.03.2026,b", "sold_on", "type", id="date of another format"),
        pytest.param("2,2.50,2026-3-1,b", "sold_on", "type", id="date without zeros"),
        pytest.param("2,2.50,2026-03-01 00:00:00,b", "sold_on", "type", id="timestamp for date"),
        pytest.param("2,2.50,infinity,b", "sold_on", "type", id="no end of time"),
        pytest.param("2,2.50,epoch,b", "sold_on", "type", id="a name for date"),
        pytest.param("2,2.50,2026-03-01 (BC),b", "sold_on", "type", id="before our era"),
        pytest.param("2,2.50,10000-01-01,b", "sold_on", "type", id="five-digit year"),
        pytest.param('2,2.50,2026-03-01,"b"c', "note", "quote", id="text behind a closing quote"),
    ],
)
def test_record_is_quarantined_and_the_others_are_written_when(landing: Landing, bad: str, column: str, reason: str):
    extract = landing.load(with_second(bad + "\n"))
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    assert rejects_of(extract) == [(2, column, reason, bad)]
    assert rows_of(extract) == [(1, Decimal("1.50"), "2026-03-01", "a"), (3, Decimal("3.50"), "2026-03-01", "c")]


def test_every_broken_promise_is_named_when_a_record_has_several(landing: Landing):
    extract = landing.load(with_second("x,1e3,never,b\n"))
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    raw = "x,1e3,never,b"
    assert {reject for reject in rejects_of(extract) if reject[2] == "type"} == {
        (2, "amount", "type", raw),
        (2, "id", "type", raw),
        (2, "sold_on", "type", raw),
    }


def test_invalid_utf8_is_quarantined_when_in_one_record(landing: Landing):
    extract = landing.load((HEADER + GOOD[0]).encode() + b"2,2.50,2026-03-01,\xff\xfe\n" + GOOD[2].encode())
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    assert [reject[:3] for reject in rejects_of(extract)] == [(2, "note", "encoding")]
    assert ids_of(extract) == [1, 3]


def test_numbers_count_records_across_kinds_when_damage_is_mixed(landing: Landing):
    """Structural rejects and misfits in turn: the numbers of both are ordinals in the file."""
    extract = landing.load(
        HEADER
        + "x,1.00,2026-03-01,a\n"  # 1 misfit
        + "2,1.00,2026-03-01\n"  # 2 columns
        + "3,1.00,2026-03-01,a\n"
        + "4,1.00,2026-03-01,a,b\n"  # 4 columns
        + "5,1.00,2026-03-01\n"  # 5 columns
        + "6,1.6.1,2026-03-01,a\n"  # 6 misfit
        + "7,1.00,2026-03-01,a\n"
        + "8,1.00,2026-13-01,a\n"  # 8 misfit
    )
    assert extract.ledger == Ledger(read=8, written=2, rejected=6)
    assert [(number, reason) for number, _, reason, _ in rejects_of(extract)] == [
        (1, "type"),
        (2, "columns"),
        (4, "columns"),
        (5, "columns"),
        (6, "type"),
        (8, "type"),
    ]
    assert ids_of(extract) == [3, 7]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_numbers_count_records_only_when_blank_lines_stand_between(landing: Landing, newline: str):
    text = (
        HEADER
        + "1,1.00,2026-03-01,a\n\n"
        + "2,1.00\n"  # 2 columns
        + "x,1.00,2026-03-01,a\n\n\n"  # 3 misfit
        + "4,1.00,2026-03-01,a\n"
        + "5,1.00,2026-03-01,a,b\n\n"  # 5 columns
        + "6,1.00,2026-03-01,a\n"
        + "7,x,2026-03-01,a\n\n"  # 7 misfit
    )
    extract = landing.load(text.replace("\n", newline))
    assert extract.ledger == Ledger(read=7, written=3, rejected=4)
    assert rejects_of(extract) == [
        (2, "sold_on", "columns", "2,1.00"),
        (3, "id", "type", "x,1.00,2026-03-01,a"),
        (5, "", "columns", "5,1.00,2026-03-01,a,b"),
        (7, "amount", "type", "7,x,2026-03-01,a"),
    ]


def test_plain_forms_are_accepted_when_written_otherwise_than_the_cast(landing: Landing):
    lines = "007,5,{0},a\n-1,0.5,{0},\n3,0,{0},a\n4,0.00,{0},a\n5,.5,{0},a\n6,1.5000,{0},a\n8,2.,{0},a\n"
    extract = landing.load(HEADER + lines.format("2026-03-01"))
    assert extract.ledger == Ledger(read=7, written=7)
    amounts = {id_: amount for id_, amount, _, _ in rows_of(extract)}
    assert amounts == dict(
        zip((7, -1, 3, 4, 5, 6, 8), map(Decimal, ["5", "0.5", "0", "0", "0.5", "1.5", "2"]), strict=True)
    )


# --- quotes and newlines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blank", ["", "\n"])
@pytest.mark.parametrize("behind", [1, 2, 5000, 200_000])
def test_file_is_refused_when_a_quote_is_not_closed(landing: Landing, behind: int, blank: str):
    """Good rows behind the quote must neither vanish nor go to quarantine as part of one bad record."""
    rows = "".join(f"{n},1.00,2026-03-01,a\n" for n in range(3, 3 + behind))
    with pytest.raises(DamagedFileError, match="quote in line 3 is not closed"):
        landing.load(HEADER + GOOD[0] + '2,2.50,2026-03-01,"b\n' + rows + blank)


def test_last_record_is_quarantined_when_only_its_quote_is_not_closed(landing: Landing):
    extract = landing.load(HEADER + GOOD[0] + '2,2.50,2026-03-01,"b\n')
    assert extract.ledger == Ledger(read=2, written=1, rejected=1)
    assert [reject[:3] for reject in rejects_of(extract)] == [(2, "note", "quote")]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_blank_lines_are_counted_apart_when_values_hold_blank_lines_too(landing: Landing, newline: str):
    text = with_second('2,2.50,2026-03-01,"two\n\n\nlines"\n') + '\n\n4,1.00,2026-03-01,"a\n\nb",extra\n\n'
    extract = landing.load(text.replace("\n", newline))
    assert extract.ledger == Ledger(read=4, written=3, rejected=1)


def test_rows_are_kept_when_two_stray_quotes_swallow_the_rows_between(landing: Landing):
    """`"b` opens, and the next stray quote closes: the rows between are a quoted text with newlines inside. That
    alone would be well-formed CSV, so what must hold is that each physical line is in the ledger or in a value."""
    text = HEADER + GOOD[0] + '2,2.50,2026-03-01,"b\n3,1.00,2026-03-01,c\n4,1.00,2026-03-01,d"\n5,1.00,2026-03-01,e\n'
    extract = landing.load(text)
    assert extract.ledger == Ledger(read=3, written=3)
    assert rows_of(extract)[1][3] == "b\n3,1.00,2026-03-01,c\n4,1.00,2026-03-01,d"


def test_newline_is_kept_when_inside_a_quoted_text(landing: Landing):
    extract = landing.load(with_second('2,2.50,2026-03-01,"two\nlines, ""quoted"""\n'))
    assert extract.ledger == Ledger(read=3, written=3)
    assert rows_of(extract)[1] == (2, Decimal("2.50"), "2026-03-01", 'two\nlines, "quoted"')


def test_raw_text_is_the_whole_record_when_a_newline_stands_in_a_rejected_one(landing: Landing):
    extract = landing.load(with_second('x,2.50,2026-03-01,"two\nlines"\n'))
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    assert rejects_of(extract) == [(2, "id", "type", 'x,2.50,2026-03-01,"two\nlines"')]


def test_record_with_too_many_columns_is_quarantined_when_a_newline_stands_in_it(landing: Landing):
    extract = landing.load(with_second('2,2.50,2026-03-01,"two\nlines",extra\n'))
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    assert rejects_of(extract)[0][0] == 2


def test_rejected_records_are_all_named_when_newlines_stand_in_values_before_them(landing: Landing):
    extract = landing.load(
        HEADER + '1,1.00,2026-03-01,"a\nb\nc"\n' + "2,1.00,2026-03-01\n" + "x,1.00,2026-03-01,a\n" + GOOD[2]
    )
    assert extract.ledger == Ledger(read=4, written=2, rejected=2)
    assert {(column, reason) for _, column, reason, _ in rejects_of(extract)} == {("note", "columns"), ("id", "type")}
    assert len({reject[0] for reject in rejects_of(extract)}) == 2


# --- lines and ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(HEADER + "".join(GOOD), id="plain"),
        pytest.param((HEADER + "".join(GOOD)).rstrip("\n"), id="no newline at the end"),
        pytest.param((HEADER + "".join(GOOD)).replace("\n", "\r\n"), id="CRLF"),
        pytest.param((HEADER + "".join(GOOD)).replace("\n", "\r\n").rstrip("\r\n"), id="CRLF, none at the end"),
        pytest.param("\ufeff" + HEADER + "".join(GOOD), id="BOM"),
        pytest.param(HEADER + GOOD[0] + "\n" + GOOD[1] + "\n\n" + GOOD[2] + "\n", id="blank lines"),
        pytest.param((HEADER + "\n".join(GOOD)).replace("\n", "\r\n"), id="blank CRLF lines"),
    ],
)
def test_three_records_are_read_when_the_lines_are_delivered(landing: Landing, text: str):
    extract = landing.load(text)
    assert extract.ledger == Ledger(read=3, written=3)
    assert rows_of(extract) == [
        (1, Decimal("1.50"), "2026-03-01", "a"),
        (2, Decimal("2.50"), "2026-03-01", "b"),
        (3, Decimal("3.50"), "2026-03-01", "c"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param((HEADER + "".join(GOOD)).replace("\n", "\r\n", 1), id="CRLF header only"),
        pytest.param(HEADER + "".join(GOOD).replace("\n", "\r\n"), id="LF header only"),
        pytest.param(with_second(GOOD[1].replace("\n", "\r\n")), id="one CRLF line"),
        pytest.param((HEADER + "".join(GOOD)).replace("\n", "\r"), id="CR alone"),
    ],
)
def test_file_is_refused_or_read_whole_when_its_lines_end_in_different_ways(landing: Landing, text: str):
    try:
        extract = landing.load(text)
    except DamagedFileError:
        return
    assert extract.ledger == Ledger(read=3, written=3)


@pytest.mark.parametrize("text", [HEADER, HEADER.rstrip("\n"), HEADER + "\n"])
def test_window_is_empty_when_the_file_has_only_a_header(landing: Landing, text: str):
    extract = landing.load(text)
    assert extract.ledger == Ledger()
    assert extract.files == ()
    assert extract.rejects is None


def test_bad_record_is_named_when_lines_end_in_crlf(landing: Landing):
    extract = landing.load(with_second("x,2.50,2026-03-01,b\n").replace("\n", "\r\n"))
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    assert rejects_of(extract) == [(2, "id", "type", "x,2.50,2026-03-01,b")]


def test_truncated_last_record_is_quarantined_when_the_file_ends_early(landing: Landing):
    extract = landing.load(HEADER + GOOD[0] + GOOD[1] + "3,3.5")
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    assert rejects_of(extract) == [(3, "sold_on", "columns", "3,3.5")]


# --- headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("amount,id,sold_on,note\n", id="reordered"),
        pytest.param("", id="missing"),
        pytest.param("id,amount,sold_on\n", id="column missing"),
        pytest.param("id,amount,sold_on,note,extra\n", id="column too many"),
        pytest.param("id;amount;sold_on;note\n", id="other delimiter"),
        pytest.param("ID,Amount,sold_on,note\n", id="other case"),
        pytest.param("id,amount,sold_on,amount\n", id="column twice"),
    ],
)
def test_file_is_refused_when_the_header_is_not_the_contracts(landing: Landing, header: str):
    with pytest.raises(HeaderError, match="header is not the contract's"):
        landing.load(header + "".join(GOOD))


def test_file_is_refused_when_it_has_no_byte(landing: Landing):
    with pytest.raises(HeaderError):
        landing.load("")


def test_no_row_is_spooled_when_the_second_files_header_is_wrong(landing: Landing):
    landing.deliver(HEADER + "".join(GOOD), f"{NAME}")
    with pytest.raises(HeaderError):
        landing.load("note,id,sold_on,amount\n", name=f"{NAME}.2")
    assert not list(landing.folder.glob("spool-*/*.parquet"))


# --- compressed files -----------------------------------------------------------------------------------------------

MANY = HEADER + "".join(f"{n},{n}.25,2026-03-01,note {n * 7919 % 10007}\n" for n in range(1, 20_001))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_rows_are_read_when_the_file_is_compressed(landing: Landing, suffix: str):
    extract = landing.load(_packed(MANY, suffix), name=NAME + suffix)
    assert extract.ledger == Ledger(read=20_000, written=20_000)
    assert ids_of(extract) == list(range(1, 20_001))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.99, -1, -4])
def test_file_is_refused_when_the_compressed_bytes_end_early(landing: Landing, suffix: str, kept: float):
    packed = _packed(MANY, suffix)
    cut = packed[: int(len(packed) * kept)] if kept > 0 else packed[: int(kept)]
    with pytest.raises(DamagedFileError, match="ends early"):
        landing.load(cut, name=NAME + suffix)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_file_is_refused_when_it_is_not_what_its_suffix_says(landing: Landing, suffix: str):
    with pytest.raises(DamagedFileError, match="cannot be decompressed"):
        landing.load(HEADER + "".join(GOOD), name=NAME + suffix)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_file_is_refused_when_a_compressed_byte_is_changed(landing: Landing, suffix: str):
    packed = bytearray(_packed(MANY, suffix))
    packed[len(packed) // 2] ^= 0xFF
    with pytest.raises(DamagedFileError):
        landing.load(bytes(packed), name=NAME + suffix)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_file_is_refused_when_its_compressed_bytes_are_none(landing: Landing, suffix: str):
    with pytest.raises((DamagedFileError, HeaderError)):
        landing.load(b"", name=NAME + suffix)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_all_frames_are_read_when_a_compressed_file_has_several(landing: Landing, suffix: str):
    half = MANY.index("10000,10000.25")
    extract = landing.load(_packed(MANY[: half + 3], suffix) + _packed(MANY[half + 3 :], suffix), name=NAME + suffix)
    assert extract.ledger == Ledger(read=20_000, written=20_000)
    assert ids_of(extract) == list(range(1, 20_001))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_file_is_refused_when_its_second_frame_ends_early(landing: Landing, suffix: str):
    with pytest.raises(DamagedFileError, match="ends early"):
        landing.load(_packed(MANY, suffix) + _packed(GOOD[0], suffix)[:-5], name=NAME + suffix)


def _packed(text: str, suffix: str) -> bytes:
    raw = text.encode()
    return gzip.compress(raw) if suffix == ".gz" else zstandard.ZstdCompressor(write_checksum=True).compress(raw)


# --- encodings ------------------------------------------------------------------------------------------------------


def test_text_is_decoded_when_the_contract_names_another_encoding(landing: Landing):
    content = with_second("2,2.50,2026-03-01,Käse €\n").encode("cp1252")
    extract = landing.load(content, dialect={"encoding": "cp1252"})
    assert rows_of(extract)[1][3] == "Käse €"


def test_utf16_is_read_when_the_contract_says_so(landing: Landing):
    extract = landing.load((HEADER + "".join(GOOD)).encode("utf-16"), dialect={"encoding": "utf-16"})
    assert extract.ledger == Ledger(read=3, written=3)


def test_file_is_refused_when_it_is_not_in_the_contracts_encoding(landing: Landing):
    with pytest.raises(DamagedFileError, match="it is not utf-16"):
        landing.load((HEADER + "".join(GOOD)).encode("utf-16")[:-1], dialect={"encoding": "utf-16"})


def test_load_is_refused_when_the_encoding_is_unknown(landing: Landing):
    with pytest.raises(SpecError, match="is no encoding"):
        landing.load(HEADER, dialect={"encoding": "klingon"})


# --- several files, keys --------------------------------------------------------------------------------------------


def test_ledger_is_the_sum_when_a_day_has_two_files(landing: Landing):
    first, second = landing.deliver(with_second("x,2.50,2026-03-01,b\n")), landing.folder / f"{NAME}.gz"
    second.write_bytes(_packed(HEADER + "4,4.00,2026-03-01,d\n5,5.00\n", ".gz"))
    extract = landing.load()
    assert extract.ledger == Ledger(read=5, written=3, rejected=2)
    rejects = pq.read_table(extract.rejects.path).to_pylist()
    assert {(row["source"], row["record_number"], row["reason"]) for row in rejects} == {
        (first.as_uri(), 2, "type"),
        (second.as_uri(), 2, "columns"),
    }
    assert [(source["uri"], source["lines"], source["records"]) for source in extract.sources] == [
        (first.as_uri(), 4, 3),
        (second.as_uri(), 3, 2),
    ]
    assert ids_of(extract) == [1, 3, 4]


def test_last_record_wins_when_a_key_is_repeated(landing: Landing):
    landing.deliver(HEADER + "".join(GOOD) + "1,9.00,2026-03-01,again\n")
    landing.deliver(HEADER + "2,8.00,2026-03-01,later file\n", f"{NAME}.2")
    extract = landing.load(deduplicate_by=("id",))
    assert extract.ledger == Ledger(read=5, written=3, deduplicated=2)
    assert rows_of(extract) == [
        (1, Decimal("9.00"), "2026-03-01", "again"),
        (2, Decimal("8.00"), "2026-03-01", "later file"),
        (3, Decimal("3.50"), "2026-03-01", "c"),
    ]


def test_good_record_stays_when_the_later_one_of_its_key_is_rejected(landing: Landing):
    extract = landing.load(HEADER + GOOD[0] + "1,bad,2026-03-01,again\n", deduplicate_by=("id",))
    assert extract.ledger == Ledger(read=2, written=1, rejected=1)
    assert rows_of(extract) == [(1, Decimal("1.50"), "2026-03-01", "a")]


def test_load_is_refused_when_the_key_is_not_in_the_contract(landing: Landing):
    with pytest.raises(SpecError, match="deduplicate_by names nothing"):
        landing.load(HEADER + "".join(GOOD), deduplicate_by=("nothing",))


def test_load_is_refused_or_empty_when_no_file_matches(landing: Landing):
    with pytest.raises(NoInputError):
        landing.load()
    extract = landing.load(allow_empty=True)
    assert (extract.ledger, extract.files, extract.rejects) == (Ledger(), (), None)


# --- modes, filters, required columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["x,2.50,2026-03-01,b\n", "2,2.50\n", "2,-1,2026-03-01,b\n"])
def test_load_fails_when_mode_is_failfast_and_one_record_is_bad(landing: Landing, bad: str):
    with pytest.raises(TooManyRejectsError, match="1 of 3 records were rejected; mode FAILFAST"):
        landing.load(with_second(bad), mode="FAILFAST")


def test_load_passes_when_mode_is_failfast_and_all_is_good(landing: Landing):
    assert landing.load(HEADER + "".join(GOOD), mode="FAILFAST").ledger == Ledger(read=3, written=3)


def test_load_fails_when_mode_is_permissive_and_too_many_are_bad(landing: Landing):
    """10 records, of which the limit lets exactly one in ten be bad."""
    good = "".join(f"{n},1.00,2026-03-01,a\n" for n in range(1, 9))
    extract = landing.load(HEADER + good + "9,1.00,2026-03-01,a\nx,1.00,2026-03-01,a\n", mode="PERMISSIVE")
    assert extract.ledger == Ledger(read=10, written=9, rejected=1)
    with pytest.raises(TooManyRejectsError, match=r"2 of 10 records were rejected; max_rejected_ratio allows 10\.00%"):
        landing.load(HEADER + good + "y,1.00,2026-03-01,a\nx,1.00,2026-03-01,a\n", mode="PERMISSIVE")


def test_no_bad_record_passes_when_the_ratio_is_zero(landing: Landing):
    with pytest.raises(TooManyRejectsError):
        landing.load(with_second("x,1.00,2026-03-01,a\n"), mode="PERMISSIVE", max_rejected_ratio=0.0)


def test_load_passes_when_mode_is_dropmalformed_and_all_are_bad(landing: Landing):
    extract = landing.load(HEADER + "x,1.00,2026-03-01,a\n1,2\n")
    assert extract.ledger == Ledger(read=2, rejected=2)
    assert extract.files == ()


def test_rows_are_filtered_and_not_rejected_when_they_miss_a_condition(landing: Landing):
    extract = landing.load(
        HEADER + "1,0.00,2026-03-01,a\n2,2.50,2026-03-01,\n3,3.50,2026-03-01,c\nx,0.00,2026-03-01,d\n",
        filters=("amount > 0", "note <> 'z'"),
    )
    assert extract.ledger == Ledger(read=4, written=1, rejected=1, filtered=2)
    assert ids_of(extract) == [3]


def test_load_is_refused_when_a_filter_is_no_condition(landing: Landing):
    with pytest.raises(SpecError, match="row_filters"):
        landing.load(HEADER + GOOD[0], filters=("price > 0",))


@pytest.mark.parametrize("text", ["infinity", "epoch", "-infinity"])
def test_date_of_another_format_is_rejected_when_it_is_a_name(contract: Contract, tmp_path: Path, text: str):
    columns = tuple(
        replace(column, text_format="%d.%m.%Y") if column.name == "sold_on" else column for column in contract.columns
    )
    extract = Landing(replace(contract, columns=columns), tmp_path).load(HEADER + f"1,1,{text},a\n2,2,31.12.9999,b\n")
    assert extract.ledger == Ledger(read=2, written=1, rejected=1)
    assert rejects_of(extract) == [(1, "sold_on", "type", f"1,1,{text},a")]
    assert rows_of(extract) == [(2, Decimal(2), "9999-12-31", "b")]


def test_record_is_rejected_when_a_required_column_is_empty(landing: Landing):
    extract = landing.load(with_second("2,2.50,2026-03-01,\n"), required=("note",))
    assert extract.ledger == Ledger(read=3, written=2, rejected=1)
    assert rejects_of(extract) == [(2, "note", "required", "2,2.50,2026-03-01,")]


def test_fingerprint_changes_when_anything_that_decides_the_rows_does(landing: Landing):
    """And only then: the same files and options give the same."""

    def fingerprint(**options) -> str:
        return landing.load(**options).fingerprint

    landing.deliver(HEADER + "".join(GOOD))
    first = fingerprint()
    assert fingerprint() == first
    others = {
        fingerprint(filters=("amount > 2",)),
        fingerprint(required=("note",)),
        fingerprint(deduplicate_by=("id",)),
        fingerprint(mode="FAILFAST"),
        fingerprint(dialect={"null_text": "b"}),
        fingerprint(content=HEADER + "".join(GOOD[:2])),
    }
    assert len(others | {first}) == 7


# --- random damage against a plain reference ------------------------------------------------------------------------

_INTEGER = re.compile(r"-?[0-9]+")
_AMOUNT = re.compile(r"-?(?=\.?[0-9])[0-9]*(\.([0-9]{1,2}0*)?)?")
_DATE = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])")

_safe_text = st.text(alphabet="abc ,é\"'€\n;", max_size=8).filter(lambda text: text.strip() == text)
_ids = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(str),
    st.sampled_from(["", "abc", "1.6", "1e3", " 7 ", "9223372036854775808", "007", "-0", "+1", "1_0", "0x1F", "--1"]),
)
_amounts = st.one_of(
    st.decimals(0, 9_999_999_999, places=2, allow_nan=False).map(str),
    st.sampled_from(
        [
            "",
            "1.005",
            "1e3",
            " 7 ",
            "-0.01",
            "5",
            "0.5",
            ".5",
            "5.",
            "1.500",
            ".",
            "NaN",
            "inf",
            "10000000000.00",
            "1,5",
        ]
    ),
)
_dates = st.sampled_from(["2026-03-01", "2024-02-28", "", "2026-13-01", "01.03.2026", "2026-3-1", "today", "infinity"])
_records = st.tuples(_ids, _amounts, _dates, _safe_text)
_columns = st.sampled_from(["1,2.00", "1,2.00,2026-03-01,a,b", "x", "1,2.00,2026-03-01"])


def _line(record: tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(record)
    return text.getvalue()


def _reference(text: str) -> tuple[Ledger, list[tuple]]:
    """What a reader without an engine makes of the file."""
    read, rejected, rows = 0, 0, []
    for record in list(csv.reader(io.StringIO(text, newline="")))[1:]:
        read += 1
        row = _fitting(record)
        if row is None:
            rejected += 1
        else:
            rows.append(row)
    return Ledger(read=read, written=len(rows), rejected=rejected), sorted(rows, key=repr)


def _fitting(record: list[str]) -> tuple | None:
    if len(record) != 4:
        return None
    id_, amount, sold_on, note = record
    if not (_INTEGER.fullmatch(id_) and _AMOUNT.fullmatch(amount) and _DATE.fullmatch(sold_on)):
        return None
    if not -(2**63) <= int(id_) < 2**63 or not 0 <= Decimal(amount) < 10**10:
        return None
    return int(id_), Decimal(amount).quantize(Decimal("0.01")), sold_on, note or None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.one_of(_records.map(_line), _columns.map("{}\n".format)), max_size=12))
@example(lines=["1,2.00\n", '1,1.00,2026-03-01,"a\nb"\n', "x,1.00,2026-03-01,a\n"])
@example(lines=["007,.5,2026-03-01,a e\n", "-0,5.,2026-03-01,\n", "1,1.500,2026-03-01,x:1\n"])
def test_ledger_and_rows_equal_a_plain_reader_when_damage_is_random(contract: Contract, lines: list[str]):
    text = HEADER + "".join(lines)
    with TemporaryDirectory() as folder:
        extract = Landing(contract, Path(folder)).load(text)
        ledger, rows = _reference(text)
        assert extract.ledger == ledger
        assert sorted(rows_of(extract), key=repr) == rows
        assert len({reject[0] for reject in rejects_of(extract)}) == ledger.rejected
