"""`airflow tallyclerk quarantine list, export, replay` over loads of the test's own: files and messages on the real services.

What `replay` starts is seen in tests/system.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.airflow.conftest import Run
from tests.integration.airflow.test_quarantine_replay import DAMAGED, DAY, NAME, Shop, shop
from tests.integration.kafka.replay_case import DATE, ReplayCase, replay_case
from tests.running import RunTask

__all__ = ["shop"]
pytestmark = pytest.mark.integration


def listed(run: Run, dataset: str) -> list[dict[str, Any]]:
    code, shown, complaints = run("quarantine", "list", "--dataset", dataset, "-o", "json")
    assert (code, complaints) == (0, "")
    return [] if shown == "nothing is in quarantine\n" else json.loads(shown)


# --- files ----------------------------------------------------------------------------------------------------------


def test_rejects_of_a_new_file_are_open_when_those_of_the_former_were_corrected(shop: Shop, run: Run) -> None:
    def corrections() -> dict[int, int | None]:
        return {row["record_number"]: row["correction"] for row in listed(run, shop.dataset)}

    shop.load()
    assert corrections() == {2: None, 3: None, 4: None}
    shop.correct({"record_number": 2, "text": f"2,two,{DAY}"})
    assert corrections() == {2: 1, 3: None, 4: None}
    shop.load()
    # the same record, with the same damage, in another file
    shop.deliver(DAMAGED + f"6,6.00,{DAY}\n")
    shop.load()
    assert corrections() == {2: None, 3: None, 4: None}
    shop.correct({"record_number": 2, "text": f"2,two,{DAY}"})
    assert corrections() == {2: 2, 3: None, 4: None}


def test_only_what_was_edited_is_a_correction_when_an_export_comes_back(shop: Shop, run: Run, tmp_path: Path) -> None:
    shop.load()
    path = tmp_path / "rejects.csv"
    code, shown, _ = run("quarantine", "export", shop.dataset, "--date", DAY, str(path))
    assert (code, shown.partition(" ")[0]) == (0, "3")
    with path.open(encoding="utf-8", newline="") as file:
        exported = list(csv.DictReader(file))
    assert [(row["source"].rpartition("/")[2], row["record_number"], row["text"]) for row in exported] == [
        (NAME, "2", f"2,x,{DAY}"), (NAME, "3", "3,3.00"), (NAME, "4", f"4,-4.00,{DAY}"),
    ]  # fmt: skip
    assert exported[2]["reason"].startswith("amount rule:")
    exported[0]["text"], exported[1]["text"] = f"2,2.00,{DAY}", ""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, exported[0])
        writer.writeheader()
        writer.writerows(exported)
    day = ("quarantine", "replay", shop.dataset, "--date", DAY)
    code, shown, _ = run(*day, "--corrections", str(path), "--dry-run")
    assert code == 0
    head, _, *lines = shown.splitlines()
    assert head.endswith("3 records in quarantine, 2 corrections")
    assert [line.split(maxsplit=1) for line in lines] == [["2", f"2,2.00,{DAY}"], ["3", "given up"]]
    assert {row["correction"] for row in listed(run, shop.dataset)} == {None}


def test_a_replay_is_refused_when_it_cannot_be_meant(shop: Shop, run: Run) -> None:
    shop.load()
    for options, complaint in (
        (["--record", "1", "--text", f"1,1.00,{DAY}", "--dry-run"], "Not in the day's quarantine: record 1"),
        (["--record", "2"], "--record needs --text"),
        (["--record", "2", "--text", "x", "--give-up"], "--record needs --text"),
        (["--record", "0", "--text", "x", "--corrections", "x.csv"], "not both"),
        (["--corrections", "/nowhere/x.csv"], "cannot be read as corrections"),
        (["--record", "2", "--text", " "], "text is neither a record nor null"),
    ):
        code, _, complaints = run("quarantine", "replay", shop.dataset, "--date", DAY, *options)
        assert (code, complaint in complaints) == (2, True), (options, complaints)


# --- messages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_task: RunTask) -> Iterator[ReplayCase]:
    """A stream that was loaded once: one good message, then two without the id that they need."""
    with replay_case(tmp_path, monkeypatch) as case:
        good = {"id": 1, "amount": "1.00", "note": None, "happened_at": "2026-03-10T12:00:00Z"}
        case.send([json.dumps(each).encode() for each in (good, good | {"id": None}, good | {"id": "x"})], partition=1)
        case.load(run_task, value_format="json")
        yield case


def test_a_message_is_listed_with_what_became_of_it(stream: ReplayCase, run: Run, run_task: RunTask) -> None:
    def corrections() -> dict[int, str | None]:
        return {row["record_number"]: row["correction"] for row in listed(run, stream.name)}

    assert corrections() == {1: None, 2: None}
    mended = json.dumps({"id": 2, "happened_at": "2026-03-10T12:00:00Z"})
    sent = stream.replay(run_task, stream.correction(1, mended, partition=1)).value["sent"]
    assert corrections() == {1: f"replayed as {sent[f'{stream.name}/1:1']}", 2: None}
    stream.replay(run_task, stream.correction(2, None, partition=1))
    assert corrections()[2] == "given up"
    code, shown, _ = run("quarantine", "list", "--dataset", stream.name, "--date", DATE)
    assert (code, len(shown.splitlines())) == (0, 3)


def test_open_messages_are_exported_as_text_when_others_are_replayed(
    stream: ReplayCase, run: Run, run_task: RunTask, tmp_path: Path
) -> None:
    path = tmp_path / "rejects.jsonl"
    export = ("quarantine", "export", stream.name, "--date", DATE, str(path))

    def exported() -> list[dict[str, Any]]:
        assert run(*export)[0] == 0
        return [json.loads(line) for line in path.read_text().splitlines()]

    first, second = exported()
    assert [(each["record_number"], json.loads(each["text"])["id"]) for each in (first, second)] == [
        (1, None),
        (2, "x"),
    ]
    assert first["source"].endswith(f"/{stream.name}/1")
    assert (first["reason"], second["reason"].partition(": ")[0]) == ("id required: must not be empty", "id type")
    path.write_text(json.dumps(first) + "\n" + json.dumps({**second, "text": "{}"}) + "\n")
    code, shown, _ = run("quarantine", "replay", stream.name, "--date", DATE, "--corrections", str(path), "--dry-run")
    assert (code, shown.splitlines()[-1].split()) == (0, ["2", "{}"])
    stream.replay(run_task, stream.correction(1, None, partition=1))
    assert [each["record_number"] for each in exported()] == [2]
