"""Ledger and receipt of a job, in the provider's own JSON shape (``tallyclerk.core.receipt``)."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from spark_jobs.failures import LedgerError

RECEIPT_KEY = "tallyclerk.receipt"
FENCE_KEY = "tallyclerk.fence"
ATTEMPT_KEY = "tallyclerk.attempt"
OUTPUT_MARK = "TALLYCLERK_RECEIPTS"


@dataclass(frozen=True, slots=True)
class Ledger:
    """Row counts of one load, each counted on its own; they must close before anything is committed."""

    read: int = 0
    written: int = 0
    rejected: int = 0
    filtered: int = 0
    deduplicated: int = 0

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def check(self, load: str) -> Ledger:
        """Return the ledger itself.

        :raises LedgerError: a count is negative, or rows are unaccounted for.
        """
        if min(asdict(self).values()) < 0:
            raise LedgerError(load, asdict(self), "no count may be negative")
        if self.read != self.written + self.rejected + self.filtered + self.deduplicated:
            raise LedgerError(load, asdict(self), "read = written + rejected + filtered + deduplicated")
        return self


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a load signs; the keys are those of the provider's receipt."""

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

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Receipt:
        known: dict[str, Any] = {each: facts[each] for each in cls.__dataclass_fields__ if each in facts}
        known["ledger"] = Ledger(**known["ledger"])
        known["paths"], known["sources"] = tuple(known.get("paths", ())), tuple(known.get("sources", ()))
        return cls(**known)

    @property
    def load(self) -> str:
        return f"{self.dataset}@{self.window}"

    def with_details(self, **facts: Any) -> Receipt:
        return replace(self, details={**self.details, **facts})

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values only."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    def as_metadata(self, fence: int, attempt: str) -> str:
        """The commit's ``userMetadata``.

        :param fence: the number that orders the commits of one table.
        :param attempt: one write's own id, by which it finds its commit again.
        """
        facts = {RECEIPT_KEY: asdict(self), FENCE_KEY: fence, ATTEMPT_KEY: attempt}
        return json.dumps(facts, separators=(",", ":"), sort_keys=True)


def fingerprint(*parts: Any) -> str:
    """Digest over everything that decides a result: equal digests mean that the same rows would be written again."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def metadata_of(text: str | None) -> dict[str, Any]:
    """The mapping in a commit's ``userMetadata``; empty for commits that other programs wrote."""
    if not text:
        return {}
    try:
        facts = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return facts if isinstance(facts, dict) else {}


def hand_over(receipts: Sequence[Receipt]) -> None:
    """Write the receipts as the last line of stdout, where the submitting task looks for them."""
    line = json.dumps([asdict(receipt) for receipt in receipts], separators=(",", ":"), sort_keys=True)
    sys.stdout.write(f"{OUTPUT_MARK} {line}\n")
    sys.stdout.flush()


def iso(days: Iterable[Any]) -> list[str]:
    return [day.isoformat() for day in sorted(days)]
