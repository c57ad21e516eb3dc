"""Corrected records of damaged files: the ledger moves them from rejected to written, each in its place, at every load.

Expected values are written by hand from the files' text.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.core.correction import AskedCorrection, Correction
from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecErrors
from tallyclerk.sources.csv_files import CsvFiles

SALES = """\
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.0.0
status: active
servers:
  - {server: landing, type: custom, format: csv, path: "sales_{date}.csv*", delimiter: ","}
schema:
  - name: sales
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true, logicalTypeOptions: {minimum: 0}}
      - {name: sold_on, logicalType: date, physicalType: date, required: true}
      - {name: note, logicalType: string, physicalType: text}
"""
DAY = Window.of_day("2026-03-01")
NAME = "sales_2026-03-01.csv"
DAMAGED = """\
id,amount,sold_on,note
1,1.00,2026-03-01,good
2,x,2026-03-01,no decimal
3,3.00,2026-03-01
4,4.00,2026-03-01,too,many
5,,2026-03-01,empty
6,-6.00,2026-03-01,below zero
y,7.00,2026-03-01,no integer
8,8.00,2026-02-30,no date
9,9.999,2026-03-01,too fine
10,10.00,2026-03-01,good
"""
"""Records 2 to 9 are damaged, each in its own way; 3 and 4 do not have their columns."""


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    path = tmp_path_factory.mktemp("contract") / "sales.odcs.yaml"
    path.write_text(SALES, encoding="utf-8")
    return load_contract(path)


class Landing:
    """A landing folder with one file, and its loads under corrections."""

    def __init__(self, contract: Contract, folder: Path) -> None:
        assert contract.csv is not None
        self._source = CsvFiles(
            contract=contract, dialect=replace(contract.csv, parse_mode="DROPMALFORMED"), folder=folder, load_id="a"
        )
        self._folder, self._loads = folder, 0

    def deliver(self, text: str) -> None:
        (self._folder / NAME).write_text(text, encoding="utf-8")

    def correction(self, record_number: int, text: str | None, revision: int = 1) -> Correction:
        """Of the file as it lies there now."""
        path = self._folder / NAME
        return Correction(path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest(), record_number, text, revision)

    def load(self, *corrections: Correction, **options) -> Extract:
        self._loads += 1
        spool = self._folder / f"spool-{self._loads}"
        spool.mkdir()
        source = replace(self._source, corrections=corrections, **options)
        extract = source.extract(DAY, spool)
        assert extract.fingerprint == source.fingerprint(DAY)
        extract.ledger.check(load="sales")
        assert sum(file.rows for file in extract.files) == extract.ledger.written
        return extract


@pytest.fixture
def landing(contract: Contract, tmp_path: Path) -> Landing:
    landing = Landing(contract, tmp_path)
    landing.deliver(DAMAGED)
    return landing


def rows_of(extract: Extract) -> list[tuple]:
    rows = [tuple(row.values()) for file in extract.files for row in pq.read_table(file.path).to_pylist()]
    return sorted((number, amount, day.isoformat(), note) for number, amount, day, note in rows)


def rejects_of(extract: Extract) -> list[tuple[int, str, str, str]]:
    if extract.rejects is None:
        return []
    rows = pq.read_table(extract.rejects.path).to_pylist()
    return sorted((row["record_number"], row["column"], row["reason"], row["raw_text"]) for row in rows)


def sale(number: int, amount: str, note: str | None) -> tuple:
    return number, Decimal(amount), "2026-03-01", note


def test_corrected_records_are_written_and_the_others_stay_when_some_are_corrected(landing: Landing) -> None:
    before = landing.load()
    assert before.ledger == Ledger(read=10, written=2, rejected=8)
    after = landing.load(
        landing.correction(2, "2,2.00,2026-03-01,mended"),
        landing.correction(3, "3,3.00,2026-03-01,"),
        landing.correction(4, '4,4.00,2026-03-01,"too, many"'),
        landing.correction(6, None),
        landing.correction(9, "9,9.99,2026-03-01,too fine"),
    )
    assert after.ledger == Ledger(read=10, written=6, rejected=3, filtered=1)
    assert rows_of(after) == [
        sale(1, "1.00", "good"), sale(2, "2.00", "mended"), sale(3, "3.00", None), sale(4, "4.00", "too, many"),
        sale(9, "9.99", "too fine"), sale(10, "10.00", "good"),
    ]  # fmt: skip
    assert rejects_of(after) == [each for each in rejects_of(before) if each[0] in (5, 7, 8)]
    assert after.details == {
        "corrected": 4,
        "corrections": {"applied": 4, "given_up": 1, "rejected": 0, "of_changed_files": 0, "not_needed": 0},
    }


def test_the_rows_are_the_same_when_the_window_is_loaded_again(landing: Landing) -> None:
    corrections = (landing.correction(5, "5,5.00,2026-03-01,"), landing.correction(2, None))
    first, second = landing.load(*corrections), landing.load(*corrections[::-1])
    assert rows_of(first) == rows_of(second)
    assert (first.ledger, first.fingerprint) == (second.ledger, second.fingerprint)
    assert first.fingerprint != landing.load().fingerprint


def test_the_ledger_closes_without_rejects_when_all_are_corrected(landing: Landing) -> None:
    extract = landing.load(*(landing.correction(number, f"{number},1.00,2026-03-01,m") for number in range(2, 10)))
    assert extract.ledger == Ledger(read=10, written=10)
    assert extract.rejects is None
    assert [row[0] for row in rows_of(extract)] == list(range(1, 11))


def test_a_record_is_rejected_with_its_new_reason_when_the_correction_is_wrong_too(landing: Landing) -> None:
    extract = landing.load(
        landing.correction(2, "2,2.00,2026-03-01,m"), landing.correction(5, "5,five,2026-03-01,m", revision=7)
    )
    assert extract.ledger == Ledger(read=10, written=3, rejected=7)
    assert (5, "amount", "type", "5,,2026-03-01,empty") in rejects_of(extract)
    assert extract.rejects is not None
    (told,) = (row for row in pq.read_table(extract.rejects.path).to_pylist() if row["record_number"] == 5)
    assert told["detail"].startswith("after correction 7: 'five' ")
    assert extract.details["corrections"]["rejected"] == 1


@pytest.mark.parametrize("text", ['5,"5.00,2026-03-01,m', "5,5.00,2026-03-01,m\n6,6.00,2026-03-01,two records"])
def test_other_corrections_stand_when_one_is_no_single_record(landing: Landing, text: str) -> None:
    extract = landing.load(landing.correction(2, "2,2.00,2026-03-01,m"), landing.correction(5, text),
                           landing.correction(7, "7,7.00,2026-03-01,m"))  # fmt: skip
    assert [row[0] for row in rows_of(extract)] == [1, 2, 7, 10]
    assert extract.ledger == Ledger(read=10, written=4, rejected=6)
    assert {number for number, *_ in rejects_of(extract)} == {3, 4, 5, 6, 8, 9}


def test_a_line_break_is_kept_when_it_stands_in_a_corrected_value(landing: Landing) -> None:
    extract = landing.load(landing.correction(2, '2,2.00,2026-03-01,"two\nlines"'))
    assert sale(2, "2.00", "two\nlines") in rows_of(extract)
    assert extract.ledger == Ledger(read=10, written=3, rejected=7)


def test_a_correction_does_not_apply_when_the_file_has_changed(landing: Landing) -> None:
    correction = landing.correction(2, "2,2.00,2026-03-01,m")
    landing.deliver(DAMAGED.replace("10.00", "11.00"))
    extract = landing.load(correction)
    assert extract.ledger == Ledger(read=10, written=2, rejected=8)
    assert extract.details["corrections"]["of_changed_files"] == 1
    assert extract.fingerprint == landing.load().fingerprint


def test_a_correction_is_told_as_not_needed_when_the_record_fits_as_delivered(landing: Landing) -> None:
    extract = landing.load(landing.correction(1, "1,1.50,2026-03-01,m"))
    assert sale(1, "1.00", "good") in rows_of(extract)
    assert extract.details["corrections"]["not_needed"] == 1


def test_filters_apply_when_a_record_is_corrected(landing: Landing) -> None:
    corrections = landing.correction(2, "2,0.50,2026-03-01,m"), landing.correction(5, "5,5.00,2026-03-01,m")
    extract = landing.load(*corrections, filters=("amount >= 1",))
    assert extract.ledger == Ledger(read=10, written=3, rejected=6, filtered=1)


@pytest.mark.parametrize(("record_number", "kept"), [(2, "good"), (3, "good"), (9, "good"), (5, "good")])
def test_the_later_record_of_a_key_is_kept_when_an_earlier_one_is_corrected(
    landing: Landing, record_number: int, kept: str
) -> None:
    extract = landing.load(landing.correction(record_number, "10,1.00,2026-03-01,m"), deduplicate_by=("id",))
    assert sale(10, "10.00", kept) in rows_of(extract)
    assert extract.ledger == Ledger(read=10, written=2, rejected=7, deduplicated=1)


@pytest.mark.parametrize("record_number", [2, 3, 4, 9])
def test_the_corrected_record_of_a_key_is_kept_when_it_stands_later(landing: Landing, record_number: int) -> None:
    corrections = landing.correction(record_number, "1,9.00,2026-03-01,m"), landing.correction(5, "1,5.00,2026-03-01,m")
    extract = landing.load(*corrections, deduplicate_by=("id",))
    assert sale(1, "9.00" if record_number > 5 else "5.00", "m") in rows_of(extract)
    assert extract.ledger == Ledger(read=10, written=2, rejected=6, deduplicated=2)


def test_every_mistake_is_told_when_corrections_are_read() -> None:
    stated = [
        {"record_number": 1, "text": "1,2", "source": "a.csv"}, {"record_number": -1, "text": "x"}, {"record_number": 2},
        {"record_number": 3, "text": " "}, {"record_number": 4, "text": None, "row": 1}, ["5"],
    ]  # fmt: skip
    with pytest.raises(SpecErrors) as refusal:
        AskedCorrection.read_all(stated)  # type: ignore[arg-type]
    assert [finding.partition(":")[0] for finding in refusal.value.findings] == [
        f"correction {number}" for number in range(2, 7)
    ]
    assert AskedCorrection.read_all(stated[:1]) == [AskedCorrection(1, "1,2", "a.csv")]  # type: ignore[arg-type]
