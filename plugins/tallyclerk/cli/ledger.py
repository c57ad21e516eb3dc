"""``airflow tallyclerk ledger`` and ``airflow tallyclerk quarantine list``."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK, command
from tallyclerk.cli.lake import lake_root, print_table, receipts, tables
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window


@command
def ledger(args: Namespace) -> int:
    """Print the newest receipt of each window, newest window first; exit code 1 when one does not close."""
    root = lake_root()
    window = Window.of_day(args.date).key if args.date else None
    found = [(uri, receipt) for uri in tables(root) for receipt in _latest(receipts(uri))]
    if args.dataset:
        found = [(uri, receipt) for uri, receipt in found if receipt.dataset == args.dataset]
    if window:
        found = [(uri, receipt) for uri, receipt in found if receipt.window == window]
    found.sort(key=lambda entry: (entry[1].window, entry[0]), reverse=True)
    shown = found[: args.limit]
    if args.output == "json":
        print(json.dumps([receipt.as_dict() for _, receipt in shown], indent=2))
    elif not shown:
        print("no load has been signed for this")
    else:
        heads = ["window", "table", "version", "read", "written", "rejected", "filtered", "deduplicated", "closes"]
        print_table(heads, (_line(uri, receipt) for uri, receipt in shown))
    return EXIT_OK if all(receipt.ledger.closes for _, receipt in shown) else EXIT_FAILED


@command
def quarantine_list(args: Namespace) -> int:
    """Print what was rejected, newest window first."""
    import pyarrow.compute as pc
    from deltalake import DeltaTable

    root = lake_root()
    rows: list[dict[str, Any]] = []
    condition = None
    if args.date:
        day = Window.of_day(args.date).day
        condition = (pc.field("year") == day.year) & (pc.field("month") == day.month) & (pc.field("day") == day.day)
    for uri in tables(root, ("quarantine",)):
        # what streams rejected stands beside what windows did
        if args.dataset and uri.rpartition("/")[2].removesuffix(".stream") != args.dataset:
            continue
        if DeltaTable.is_deltatable(uri):
            rows += DeltaTable(uri).to_pyarrow_dataset().to_table(filter=condition).to_pylist()
    corrected = _newest_corrections(root, {row["dataset"] for row in rows}, condition)
    for row in rows:
        row["correction"] = corrected.get((row["dataset"], row["window"], row["source"], row["record_number"]))
    rows.sort(key=lambda row: (row["window"], row["source"], -row["record_number"]), reverse=True)
    fields = ["window", "dataset", "source", "record_number", "column", "reason", "detail", "correction", "raw_text"]
    if args.output == "json":
        print(json.dumps(rows[: args.limit], indent=2, default=str))
    elif rows:
        print_table(fields, ([row[field] for field in fields] for row in rows[: args.limit]))
    else:
        print("nothing is in quarantine")
    return EXIT_OK


def _newest_corrections(root: str, datasets: set[str], condition: Any) -> dict[tuple[str, str, str, int], int]:
    """The newest revision for each record (data set, window, source, number): who is still in quarantine awaits its replay, or
    was corrected wrongly."""
    from deltalake import DeltaTable

    found: dict[tuple[str, str, str, int], int] = {}
    for dataset in datasets:
        uri = f"{root}/data/corrections/{dataset}"
        if DeltaTable.is_deltatable(uri):
            columns = ["dataset", "window", "source", "record_number", "revision"]
            for row in DeltaTable(uri).to_pyarrow_dataset().to_table(columns, filter=condition).to_pylist():
                *record, revision = row.values()
                key = tuple(record)
                found[key] = max(revision, found.get(key, 0))
    return found


def _latest(found: list[Receipt]) -> Iterator[Receipt]:
    seen: set[str] = set()
    for receipt in found:
        if receipt.window not in seen:
            seen.add(receipt.window)
            yield receipt


def _line(uri: str, receipt: Receipt) -> list[Any]:
    counts = receipt.ledger
    return [
        receipt.window,
        uri.partition("/data/")[2],
        receipt.version,
        counts.read,
        counts.written,
        counts.rejected,
        counts.filtered,
        counts.deduplicated,
        "yes" if counts.closes else "NO",
    ]
