"""What the cluster is told of a load is what the worker's engine would do, and what it cannot do is refused before it starts."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from stack.settings import ROOT
from tallyclerk.contracts import load_contract
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.sources.csv_files import CsvFiles
from tallyclerk.sources.csv_spark_spec import refuse_what_spark_cannot, spark_spec

DAY = Window.of_day("2026-03-01")


def source_of(folder: Path, **changes: object) -> CsvFiles:
    contract = load_contract(ROOT / "include" / "contracts" / "transactions.odcs.yaml")
    assert contract.csv is not None
    return replace(CsvFiles(contract=contract, dialect=contract.csv, folder=folder, load_id="an attempt"), **changes)  # type: ignore[arg-type]


def test_the_specification_holds_contract_options_and_files(tmp_path: Path) -> None:
    text = b"a,b\n1,2\nlast without a newline"
    (tmp_path / "transactions_2026-03-01.csv").write_bytes(text)
    source = source_of(tmp_path, required=("week",), filters=("sales_value > 0",), deduplicate_by=("transaction_id",))
    spec = spark_spec(source, DAY, target="hdfs://h/t", quarantine="hdfs://h/q", former="a")

    assert (spec["dataset"], spec["window"], spec["load_id"]) == ("transactions", "2026-03-01", "an attempt")
    assert spec["former"] == "a"
    assert spec["fingerprint"] == source.fingerprint(DAY)
    assert spec["files"] == [
        {
            "uri": (tmp_path / "transactions_2026-03-01.csv").as_uri(),
            "bytes": len(text),
            "sha256": hashlib.sha256(text).hexdigest(),
            "lines": 3,
        }
    ]
    assert (spec["filters"], spec["deduplicate_by"], spec["mode"]) == (
        ["sales_value > 0"],
        ["transaction_id"],
        "PERMISSIVE",
    )
    assert [column["name"] for column in spec["columns"] if column["derived"]] == ["transaction_date"]
    rules = {rule["id"]: rule for rule in spec["rules"]}
    assert rules["week.required"]["violation"] == '"week" IS NULL'
    assert {rule["id"] for rule in spec["table_rules"]} == {"not_empty", "one_row_per_id"}


def test_lines_are_left_to_spark_when_a_file_is_compressed(tmp_path: Path) -> None:
    (tmp_path / "sales.csv.gz").write_bytes(gzip.compress(b"a\n"))
    spec = spark_spec(source_of(tmp_path, pattern="*.gz"), DAY, target="t", quarantine="q", former="")
    assert set(spec["files"][0]) == {"uri", "bytes", "sha256"}


@pytest.mark.parametrize(
    ("name", "encoding", "told"),
    [
        ("sales.csv.zst", "UTF-8", "sales.csv.zst is .zst"),
        ("sales.csv", "UTF-16", "lines in UTF-16"),
        ("sales.csv", "cp037", "lines in cp037"),
        ("sales.csv", "klingon", "no encoding that Python knows"),
    ],
)
def test_refusal_names_the_reason_when_spark_cannot_read_it(
    tmp_path: Path, name: str, encoding: str, told: str
) -> None:
    (tmp_path / name).write_bytes(b"a\n")
    source = source_of(tmp_path, pattern="sales*")
    with pytest.raises(SpecError, match=told):
        refuse_what_spark_cannot(replace(source, dialect=replace(source.dialect, encoding=encoding)), DAY)
