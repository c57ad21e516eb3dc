"""What a load signs: which rows, from where, to where, and the ledger."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window

RECEIPT_KEY = "tallyclerk.receipt"
"""Where a Delta commit carries its receipt: a key of the commit's metadata."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The signed result of one load; the same JSON stands in the sink's commit, in XCom and in the asset event.

    :param dataset: name of the data, as in its contract.
    :param window: the load's window (its ``key``).
    :param ledger: the counts, already checked.
    :param location: URI of the table that was written.
    :param paths: URIs of the data files that now hold the window.
    :param version: the sink's commit: a Delta version, or the generation of a write without versions.
    :param load_id: one attempt's own id; staged files and quarantined records bear it.
    :param contract_version: version of the contract that was applied.
    :param fingerprint: digest over the inputs and everything that decides the result (files' digests, contract,
        options): equal fingerprints mean that the same rows would be written again.
    :param sources: what was read, one mapping each (``uri``, ``bytes``, ``records``, ``sha256``, ...).
    :param cursor: the source's position after this load (watermark, offsets, LSN), empty where there is none.
    :param quarantine: URI of the quarantine table, empty when nothing was ever rejected there.
    :param details: further facts of the load, for readers (seconds, bytes, engine).
    :param repeated: the window already held exactly this load, so that nothing was written.
    """

    dataset: str
    window: str
    ledger: Ledger
    location: str
    paths: tuple[str, ...] = ()
    version: int = -1
    load_id: str = ""
    contract_version: str = ""
    fingerprint: str = ""
    sources: tuple[dict[str, Any], ...] = ()
    cursor: dict[str, Any] = field(default_factory=dict)
    quarantine: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    repeated: bool = False

    @property
    def load(self) -> str:
        """The load's name: dataset and window."""
        return load_name(self.dataset, self.window)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values only."""
        return json.loads(json.dumps(asdict(self)))

    def as_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Receipt:
        known = {name: facts[name] for name in cls.__dataclass_fields__ if name in facts}
        known["ledger"] = Ledger.from_dict(known["ledger"])
        known["paths"] = tuple(known.get("paths", ()))
        known["sources"] = tuple(known.get("sources", ()))
        return cls(**known)

    @classmethod
    def from_json(cls, text: str) -> Receipt:
        return cls.from_dict(json.loads(text))

    def as_repeated(self) -> Receipt:
        return replace(self, repeated=True)


def load_name(dataset: str, window: str | Window) -> str:
    """``dataset@window``: the name under which a load is committed, fenced and reported (promise P2)."""
    return f"{dataset}@{window.key if isinstance(window, Window) else window}"
