"""What the tests of change capture share: a contract, a table, and a run of a source as an operator makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.sources.database_changes import ChangePiece, ChangeSource

MINUTE = Window.from_key("2026-03-01T10:00:00+00:00/2026-03-01T10:01:00+00:00")

_HEAD = """\
apiVersion: v3.1.0
kind: DataContract
id: items
name: items
version: 1.0.0
status: active
schema:
  - name: items
    customProperties:
      - property: kafka
        value: {topic: items, key: [id]}
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, required: true, primaryKey: true}
"""
COLUMNS = """\
      - {name: label, logicalType: string, physicalType: text}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)"}
      - {name: changed_at, logicalType: timestamp, physicalType: timestamptz, required: true}
"""
TABLE = "(id bigint PRIMARY KEY, label text, amount numeric(12,2), changed_at timestamptz NOT NULL DEFAULT clock_timestamp())"


def item_contract(folder: Path, columns: str = COLUMNS) -> Contract:
    """A contract with the key ``id`` and these columns."""
    path = folder / f"items-{uuid4().hex[:8]}.odcs.yaml"
    path.write_text(_HEAD + columns, encoding="utf-8")
    return load_contract(path)


@dataclass(slots=True)
class Captured:
    """What runs have sent: pieces as they were committed, one after the other."""

    pieces: list[ChangePiece] = field(default_factory=list)

    @property
    def cursor(self) -> Mapping[str, Any]:
        return self.pieces[-1].cursor if self.pieces else {}

    @property
    def ledger(self) -> Ledger:
        return sum((piece.ledger for piece in self.pieces), Ledger())

    @property
    def sent(self) -> pa.Table:
        """All messages, tombstones among them."""
        return pa.concat_tables([piece.rows for piece in self.pieces])

    @property
    def events(self) -> list[dict[str, Any]]:
        """All messages but the tombstones."""
        found: list[dict[str, Any]] = []
        for piece in self.pieces:
            dead = piece.tombstones.to_pylist() if piece.tombstones is not None else [False] * piece.rows.num_rows
            found += [row for row, gone in zip(piece.rows.to_pylist(), dead, strict=True) if not gone]
        return found

    @property
    def tombstones(self) -> list[int]:
        return [
            row["id"]
            for piece in self.pieces
            if piece.tombstones is not None
            for row, gone in zip(piece.rows.to_pylist(), piece.tombstones.to_pylist(), strict=True)
            if gone
        ]

    def state(self) -> dict[int, dict[str, Any]]:
        """What a reader that applies the events in order ends up with; the contract's columns by key."""
        rows: dict[int, dict[str, Any]] = {}
        for event in self.events:
            if event["__deleted"]:
                rows.pop(event["id"], None)
            else:
                rows[event["id"]] = {name: value for name, value in event.items() if not name.startswith("__")}
        return rows


def capture(
    source: ChangeSource,
    directory: Path,
    captured: Captured | None = None,
    *,
    pieces: int | None = None,
    killed_before_commit: bool = False,
) -> Captured:
    """One run that commits each piece into ``captured``, going on from its cursor.

    :param pieces: die at the piece of this number, as a killed task does: after its commit, or just before.
    """
    captured = captured or Captured()
    for number, piece in enumerate(source.pieces(captured.cursor, MINUTE, directory), 1):
        piece.ledger.check(load="test")
        if number == pieces and killed_before_commit:
            return captured
        captured.pieces.append(piece)
        if number == pieces:
            return captured
    assert captured.pieces[-1].last
    return captured
