"""``airflow tallyclerk ledger``."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK, command
from tallyclerk.cli.lake import print_table, receipts
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.hooks.lake import lake_root
from tallyclerk.sinks.lake_zones import tables


@command
def ledger(args: Namespace) -> int:
    """Print the newest receipt of each window, newest window first; exit code 1 when one does not close."""
    root = lake_root()
    window = Window.of_day(args.date).key if args.date else None
    found = [(uri, receipt) for uri in tables(root) for receipt in latest(receipts(uri))]
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


def latest(found: list[Receipt]) -> Iterator[Receipt]:
    """The newest receipt of each window.

    :param found: newest first.
    """
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
