"""What the page reads of quarantine tables on the real HDFS, against what was put there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hdfs_native import Client

from stack.settings import LOOPBACK, load_settings
from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.sinks.quarantine import Quarantine, quarantine_schema
from tallyclerk.ui import quarantine
from tallyclerk.ui.quarantine import SHOWN, all_reasons, findings

pytestmark = pytest.mark.integration

DAYS = ("2026-03-01", "2026-03-02", "2026-03-03")
RANGE = "sales/0:10-20"


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> str:
    port = load_settings().port("HDFS")
    connection = {"conn_type": "hdfs", "host": LOOPBACK, "extra": {"rpc_port": port}}
    monkeypatch.setenv("AIRFLOW_CONN_HDFS_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("HADOOP_USER_NAME", "hdfs")
    return f"hdfs://{LOOPBACK}:{port}"


@pytest.fixture
def name(root: str, tmp_path: Path) -> Iterator[str]:
    """Two findings on the first day, 70 of two kinds on the second, one on the third."""
    name = f"test_{uuid4().hex[:12]}"
    yield name
    Client(root).delete(f"/data/quarantine/{name}", recursive=True)


@pytest.fixture
def filled(root: str, name: str, tmp_path: Path) -> str:
    put(root, name, tmp_path, DAYS[0], ["type", "required"])
    put(root, name, tmp_path, DAYS[1], ["type"] * 60 + ["unique"] * 10)
    put(root, name, tmp_path, DAYS[2], ["type"])
    return name


def put(root: str, name: str, directory: Path, day: str, reasons: Sequence[str]) -> None:
    facts = {
        "dataset": name,
        "window": day,
        "source": f"file:///{day}.csv",
        "column": "id",
        "detail": "",
        "raw_text": "x",
    }
    rows = [
        {**facts, "record_number": number, "reason": reason, "rejected_at": datetime.now(UTC)}
        for number, reason in enumerate(reasons, start=1)
    ]
    path = directory / f"{day}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=quarantine_schema()), path)
    receipt = Receipt(name, day, Ledger(read=len(rows), rejected=len(rows)), "", load_id=uuid4().hex)
    table = Quarantine(f"{root}/data/quarantine/{name}", dataset=name)
    table.replace_window(Window.of_day(day), SpooledFile(path, len(rows)), receipt)


def own(name: str) -> quarantine.Reasons | None:
    return next((each for each in all_reasons() if each.name == name), None)


def test_reasons_are_counted_anew_when_a_day_was_put_there(root: str, filled: str, tmp_path: Path) -> None:
    told = own(filled)
    assert told is not None
    assert (told.total, told.looked_at, told.newest.isoformat()) == (73, 73, DAYS[2])
    assert told.counts == (("id", "type", 62), ("id", "unique", 10), ("id", "required", 1))
    put(root, filled, tmp_path, DAYS[2], ["type", "unique"])
    told = own(filled)
    assert told is not None
    assert told.counts == (("id", "type", 62), ("id", "unique", 11), ("id", "required", 1))


def test_the_newest_are_shown_and_all_are_counted_when_nothing_is_asked_for(filled: str) -> None:
    found = findings(filled)
    assert [(row["window"], row["record_number"]) for row in found.rows] == [
        (DAYS[2], 1), *((DAYS[1], number) for number in range(1, SHOWN)),
    ]  # fmt: skip
    assert (found.matching, found.looked_at, found.total) == (73, 73, 73)
    assert found.days == list(reversed(DAYS))
    assert found.reasons == ("type", "unique", "required")


@pytest.mark.parametrize(
    ("asked", "matching", "total"),
    [
        ({"window": DAYS[0]}, 2, 2),
        ({"reason": "type"}, 62, 73),
        ({"window": DAYS[1], "reason": "unique"}, 10, 70),
        ({"window": RANGE}, 0, 73),
        ({"reason": "nonsense"}, 0, 73),
    ],
)
def test_only_what_is_asked_for_is_counted(filled: str, asked: dict[str, str], matching: int, total: int) -> None:
    found = findings(filled, **asked)
    assert (found.matching, found.total) == (matching, total)
    assert len(found.rows) == min(matching, SHOWN)
    assert all(row[name] == value for row in found.rows for name, value in asked.items())


def test_older_files_are_counted_and_not_read_when_there_are_too_many(
    filled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really, read = quarantine._dataset, []

    def noted(table: DeltaTable, files: Sequence[Any]) -> Any:
        read.extend(file.path for file in files if filled in table.table_uri)
        return really(table, files)

    monkeypatch.setattr(quarantine, "_FINDINGS_LOOKED_AT", 71)
    monkeypatch.setattr(quarantine, "_dataset", noted)
    told, found = own(filled), findings(filled, reason="type")
    assert told is not None
    assert (told.looked_at, told.total) == (found.looked_at, found.total) == (71, 73)
    assert ({reason: count for _, reason, count in told.counts}["type"], found.matching) == (61, 61)
    assert {path.split("/")[2] for path in read} == {"day=02", "day=03"}


def test_nothing_is_told_of_a_table_that_is_not_there(root: str, name: str) -> None:
    assert own(name) is None
    assert (findings(name).rows, findings(name).total) == ((), 0)


@pytest.mark.parametrize("look", [own, lambda name: findings(name).rows or None], ids=["reasons", "findings"])
def test_nothing_is_told_when_the_table_goes_while_it_is_read(
    root: str, filled: str, monkeypatch: pytest.MonkeyPatch, look: Callable[[str], object]
) -> None:
    assert look(filled) is not None
    really = quarantine._dataset

    def in_the_last_moment(*arguments: Any) -> Any:
        Client(root).delete(f"/data/quarantine/{filled}", recursive=True)
        return really(*arguments)

    monkeypatch.setattr(quarantine, "_dataset", in_the_last_moment)
    quarantine._counted.clear()
    assert look(filled) is None
