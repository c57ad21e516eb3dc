"""``airflow tallyclerk quarantine list``."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterable, Mapping
from typing import Any

from tallyclerk.cli.console import EXIT_OK, command
from tallyclerk.cli.lake import print_table, receipts
from tallyclerk.cli.ledger import latest
from tallyclerk.core.window import Window
from tallyclerk.hooks.lake import lake_root
from tallyclerk.sinks.lake_table import on_day, rows_of
from tallyclerk.sinks.lake_zones import tables
from tallyclerk.sinks.message_corrections import newest_outcomes

Row = Mapping[str, Any]

_FIELDS = ("window", "dataset", "source", "record_number", "column", "reason", "detail", "correction", "raw_text")


@command
def quarantine_list(args: Namespace) -> int:
    """Print what was rejected and what people decided about it, newest window first."""
    root = lake_root()
    condition = on_day(Window.of_day(args.date).day) if args.date else None
    rows: list[dict[str, Any]] = []
    for uri in tables(root, ("quarantine",)):
        # what streams rejected stands beside what windows did
        name = uri.rpartition("/")[2]
        if args.dataset in (None, name.removesuffix(".stream")):
            rows += _decided(root, uri, condition)
    rows.sort(key=lambda row: (row["window"], row["source"], -row["record_number"]), reverse=True)
    if args.output == "json":
        print(json.dumps(rows[: args.limit], indent=2, default=str))
    elif rows:
        print_table(list(_FIELDS), ([row[field] for field in _FIELDS] for row in rows[: args.limit]))
    else:
        print("nothing is in quarantine")
    return EXIT_OK


def newest_revisions(
    rejects: Iterable[Row], corrections: Iterable[Row], digests: Mapping[tuple[str, str], str]
) -> list[int | None]:
    """For each rejected record of a file, its newest correction: it awaits its replay, or was corrected wrongly.

    :param corrections: as :class:`~tallyclerk.sinks.corrections.Corrections` keeps them.
    :param digests: (window, source) → SHA-256 of the file that the rejects are of. A correction of the file that lay there
        before is none of the new file's.
    """
    newest: dict[tuple[str, str, str, int], int] = {}
    for row in corrections:
        record = row["window"], row["source"].rpartition("/")[2], row["sha256"], row["record_number"]
        newest[record] = max(row["revision"], newest.get(record, 0))
    return [
        newest.get((
            row["window"], row["source"].rpartition("/")[2], digests.get((row["window"], row["source"]), ""),
            row["record_number"],
        )) for row in rejects
    ]  # fmt: skip


def _decided(root: str, uri: str, condition: Any) -> list[dict[str, Any]]:
    """A quarantine's rows, each with its ``correction``."""
    rows = rows_of(uri, condition)
    decided: list[Any]
    if uri.endswith(".stream"):
        corrections = rows_of(f"{root}/data/corrections/{uri.rpartition('/')[2]}", condition) if rows else []
        decided = newest_outcomes(rows, corrections)
    else:
        datasets = sorted({row["dataset"] for row in rows})
        corrections = [row for name in datasets for row in rows_of(f"{root}/data/corrections/{name}", condition)]
        loads = list(latest(receipts(uri))) if corrections else []
        digests = {(load.window, source["uri"]): source.get("sha256", "") for load in loads for source in load.sources}
        decided = newest_revisions(rows, corrections, digests)
    return [{**row, "correction": decision} for row, decision in zip(rows, decided, strict=True)]
