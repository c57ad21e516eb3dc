"""What `quarantine list` says of each reject, and which lines of an edited export are corrections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tallyclerk.cli.quarantine import newest_revisions
from tallyclerk.cli.replay import read_corrections
from tallyclerk.exceptions import SpecError

DAY = "2026-03-01"
SOURCE = "file:///landing/a.csv"


def reject(number: int, *, source: str = SOURCE, window: str = DAY) -> dict[str, Any]:
    return {"window": window, "source": source, "record_number": number}


def corrected(number: int, sha256: str, revision: int, *, source: str = SOURCE) -> dict[str, Any]:
    return {**reject(number, source=source), "sha256": sha256, "revision": revision}


def test_the_newest_correction_of_this_very_file_counts_when_there_are_several() -> None:
    corrections = [
        corrected(2, "new", 4), corrected(2, "new", 3), corrected(3, "former", 5),
        corrected(4, "new", 6, source="file:///elsewhere/a.csv"), corrected(5, "new", 7, source="file:///landing/b.csv"),
    ]  # fmt: skip
    rejects = [reject(number) for number in (1, 2, 3, 4, 5)]
    assert newest_revisions(rejects, corrections, {(DAY, SOURCE): "new"}) == [None, 4, None, 6, None]
    # no receipt tells the file's digest
    assert newest_revisions(rejects, corrections, {}) == [None] * 5


def test_a_correction_is_of_its_window_only() -> None:
    windows = {(DAY, SOURCE): "same", ("2026-03-02", SOURCE): "same"}
    assert newest_revisions([reject(2, window="2026-03-02")], [corrected(2, "same", 1)], windows) == [None]


REJECTED = {("a.csv", 2): "2,x", ("a.csv", 3): "3", ("sales/0", 0): "{}"}


def test_an_empty_text_gives_up_and_an_unchanged_one_is_left_out_when_csv_is_read(tmp_path: Path) -> None:
    path = tmp_path / "edited.csv"
    path.write_text('source,record_number,text,reason\na.csv,2,"2,""x""\n",type\na.csv,3,3,columns\nsales/0,0,,json\n')
    assert read_corrections(path, REJECTED) == [
        {"source": "a.csv", "record_number": 2, "text": '2,"x"\n'}, {"source": "sales/0", "record_number": 0, "text": None},
    ]  # fmt: skip


def test_an_unchanged_text_is_left_out_when_json_lines_are_read(tmp_path: Path) -> None:
    path, edited = tmp_path / "edited.jsonl", {"source": "sales/0", "record_number": 0, "text": '{"id": 1}'}
    unchanged = {"source": "a.csv", "record_number": 2, "text": "2,x", "reason": "type"}
    path.write_text(json.dumps(unchanged) + "\n\n" + json.dumps(edited) + "\n")
    assert read_corrections(path, REJECTED) == [edited]


@pytest.mark.parametrize("text", ["{", "[1]", "source,text\na.csv,x\n", "source,record_number,text\na.csv,two,x\n"])
def test_a_file_is_refused_when_it_cannot_be_read_as_corrections(tmp_path: Path, text: str) -> None:
    path = tmp_path / ("edited.csv" if "source" in text else "edited.jsonl")
    path.write_text(text)
    with pytest.raises(SpecError, match="cannot be read as corrections"):
        read_corrections(path, {})
