"""The cluster's CSV engine beside the provider's own, over one damaged day: the same ledger, rows and quarantine."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.core.window import Window
from tallyclerk.sinks.lake_table import receipts_of
from tallyclerk.sources.csv_files import CsvFiles
from tests.integration.spark.conftest import ROOT
from tests.integration.spark.conftest import receipts_of as receipts_in
from tests.integration.spark.small_lake import SmallLake

pytestmark = pytest.mark.integration
DAY = "2026-01-31"
HEADER = (
    "transaction_id,household_id,store_id,basket_id,product_id,quantity,sales_value,retail_disc,coupon_disc,"
    "coupon_match_disc,week,transaction_timestamp\n"
)
TAIL = "0.00,0.00,0.00,5,2026-01-31 10:00:00"


def key(number: int) -> str:
    return f"2cee4560-d579-51fb-ae07-{number:012d}"


def delivery() -> str:
    good = [f"{key(n)},{n % 7},1,1,p{n},1,{n}.25,{TAIL}\n" for n in range(1, 41)]
    bad = [
        f"{key(101)},1,1,1,p,1,1.00\n",  # too few columns
        f"{key(102)},1,1,1,p,1,1.00,{TAIL},more\n",
        f"{key(103)},1.6,1,1,p,1,1.00,{TAIL}\n",
        f"{key(104)},1,1,1,p,1,1e3,{TAIL}\n",
        f"{key(105)},1,1,1,p,-1,1.00,{TAIL}\n",  # below the minimum
        f"{key(106)},1,1,1,p,1,-0.01,{TAIL}\n",
        f"{key(107)},1,1,1,,1,1.00,{TAIL}\n",  # product required
        f'{key(108)},1,1,1,"p"x,1,1.00,{TAIL}\n',
        f"{key(109)},1,1,1,p,1,1.00,{TAIL.replace('01-31', '02-30')}\n",
        f"{key(110)[:-1]},1,1,1,p,1,1.00,{TAIL}\n",
    ]
    again = [f"{key(5)},5,1,1,corrected,1,5.55,{TAIL}\n"]
    text = [f'{key(200)},1,1,1,"two\nlines, ""quoted""",1,2.00,{TAIL}\n', f'{key(201)},1,1,1,5" pipe,1,3.00,{TAIL}\n']
    return HEADER + "".join(good[:20] + bad + good[20:] + again + text)


def spec_of(contract: Contract, lake: SmallLake, files: list[Path], **options: Any) -> str:
    return json.dumps(
        {
            "dataset": contract.dataset,
            "window": DAY,
            "load_id": "on spark",
            "contract_version": contract.version,
            "target": f"{lake.uri}/raw/transactions",
            "quarantine": f"{lake.uri}/quarantine/transactions",
            "files": [{"uri": path.as_uri(), "bytes": path.stat().st_size} for path in files],
            "columns": [
                {"name": column.name, "type": column.type, "derived": column.derived} for column in contract.columns
            ],
            "rules": [
                {
                    name: getattr(rule, name) or ""
                    for name in ("id", "column", "check", "violation", "message", "on_violation")
                }
                for rule in contract.row_rules
            ],
            "table_rules": [
                {
                    name: getattr(rule, name)
                    for name in ("id", "violation", "measure", "message", "on_violation", "check")
                }
                for rule in contract.table_rules
            ],
            "deduplicate_by": ["transaction_id"],
            "mode": "DROPMALFORMED",
        }
        | options
    )


def test_both_engines_agree_and_a_wrong_header_changes_nothing(
    lake: SmallLake, submit: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    contract = load_contract(ROOT / "include" / "contracts" / "transactions.odcs.yaml")
    assert contract.csv is not None
    path, spool = tmp_path / f"transactions_{DAY}.csv", tmp_path / "spool"
    path.write_text(delivery())
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(delivery().replace("household_id", "household", 1))
    spool.mkdir()
    local = CsvFiles(
        contract=contract,
        dialect=contract.csv,
        folder=tmp_path,
        deduplicate_by=("transaction_id",),
        max_rejected_ratio=1.0,
        load_id="local",
    ).extract(Window.of_day(DAY), spool)

    spec = tmp_path / "spec.json"
    spec.write_text(spec_of(contract, lake, [path]))
    stdout, stderr = (process := submit("load_csv.py", str(spec))).communicate(timeout=400)
    assert process.returncode == 0, stderr[-3000:]
    (receipt,) = receipts_in(stdout)

    assert receipt["ledger"] == local.ledger.as_dict()
    assert local.ledger.as_dict() == {"read": 53, "written": 42, "rejected": 10, "filtered": 0, "deduplicated": 1}
    assert receipt["sources"] == [
        {"uri": path.as_uri(), "bytes": path.stat().st_size, "lines": delivery().count("\n"), "records": 53}
    ]
    table = DeltaTable(f"{lake.uri}/raw/transactions")
    columns = [column.name for column in contract.columns]
    assert rows_of(table.to_pyarrow_table(), columns) == rows_of(
        pq.read_table([file.path for file in local.files]), columns
    )
    assert [(each.load, each.ledger, each.version) for each in receipts_of(table.table_uri)] == [
        (f"transactions@{DAY}", local.ledger, receipt["version"])
    ]
    assert table.transaction_version(f"transactions@{DAY}") == receipt["version"]  # both engines fence each other
    assert local.rejects is not None
    names = [
        "dataset",
        "window",
        "source",
        "record_number",
        "line_number",
        "column",
        "reason",
        "detail",
        "raw_text",
        "contract_version",
    ]
    stored = DeltaTable(receipt["quarantine"]).to_pyarrow_table()
    assert set(stored.column_names) == {*pq.read_schema(local.rejects.path).names, "year", "month", "day"}
    there, here = rows_of(stored, names), rows_of(pq.read_table(local.rejects.path), names)
    structural = ("columns", "quote")  # what DuckDB itself says of a record is in its own words
    assert [row for row in there if row["reason"] not in structural] == [
        row for row in here if row["reason"] not in structural
    ]
    assert [row | {"detail": ""} for row in there] == [row | {"detail": ""} for row in here]

    refused = submit("load_csv.py", spec_of(contract, lake, [wrong]))
    _, stderr = refused.communicate(timeout=400)
    assert refused.returncode == 1
    assert "the header is not the contract's" in stderr
    assert DeltaTable(table.table_uri).version() == table.version()


def rows_of(table: pa.Table, columns: list[str]) -> list[dict[str, Any]]:
    return sorted(table.select(columns).to_pylist(), key=lambda row: json.dumps(row, default=str, sort_keys=True))
