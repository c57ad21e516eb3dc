"""The count of every row of a load, and the rule that it must close (promise P1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tallyclerk.exceptions import LedgerError


@dataclass(frozen=True, slots=True)
class Ledger:
    """Row counts of one load; ``read = written + rejected + filtered + deduplicated`` or nothing is committed."""

    read: int = 0
    written: int = 0
    rejected: int = 0
    filtered: int = 0
    deduplicated: int = 0

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(**{name: count + getattr(other, name) for name, count in asdict(self).items()})

    @property
    def closes(self) -> bool:
        """Whether the rows read are all accounted for."""
        return self.read == self.written + self.rejected + self.filtered + self.deduplicated

    def check(self, *, load: str) -> Ledger:
        """Return the ledger itself when it closes.

        :param load: the load's name, for the message.
        :raises LedgerError: a count is negative, or the rows read are not all accounted for.
        """
        counts = asdict(self)
        if min(counts.values()) < 0:
            raise LedgerError(load=load, counts=counts, rule="no count may be negative")
        if not self.closes:
            raise LedgerError(load=load, counts=counts, rule="read = written + rejected + filtered + deduplicated")
        return self

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def from_dict(cls, counts: dict[str, Any]) -> Ledger:
        return cls(**{name: int(counts.get(name, 0)) for name in cls.__dataclass_fields__})

    def __str__(self) -> str:
        return (
            f"read {self.read:,} = written {self.written:,} + rejected {self.rejected:,} "
            f"+ filtered {self.filtered:,} + deduplicated {self.deduplicated:,}"
        )
