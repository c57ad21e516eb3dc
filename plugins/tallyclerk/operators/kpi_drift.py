"""The two layers' KPIs of a day, customer by customer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.serving.kpi_view import KpiRow

KINDS = ("only_in_batch", "only_in_speed", "different")
"""How a customer's day can drift. The average follows from amount and count, and is not compared."""

_NOTHING = Decimal("0.00")


@dataclass(frozen=True)
class KpiDrift:
    """A comparison. Both layers' rows of the day are held in memory.

    :param batch, speed: each layer's amount in dollars and number of sales lines, by customer.
    """

    day: date
    batch: dict[str, tuple[Decimal, int]]
    speed: dict[str, tuple[Decimal, int]]

    @classmethod
    def between(cls, day: date, batch: Iterable[KpiRow], speed: Iterable[KpiRow]) -> KpiDrift:
        sides = (
            {row.customer_id: (row.total_amount, row.transaction_count) for row in rows} for rows in (batch, speed)
        )
        return cls(day, *sides)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A row for each customer whose answers differ, by :func:`schema`; differences are the speed layer's minus the batch's."""
        return [
            self._row(customer)
            for customer in sorted({*self.batch, *self.speed})
            if self.batch.get(customer) != self.speed.get(customer)
        ]

    @property
    def customers(self) -> int:
        """All that either layer has."""
        return len({*self.batch, *self.speed})

    @property
    def ratio(self) -> float:
        """The share of customers whose answers differ."""
        return len(self.rows) / self.customers if self.customers else 0.0

    @property
    def is_streamed(self) -> bool:
        """False where the speed layer has nothing of a day on which there were sales."""
        return bool(self.speed) or not self.batch

    @property
    def fingerprint(self) -> str:
        """Digest of both sides."""
        return hashlib.sha256(repr((sorted(self.batch.items()), sorted(self.speed.items()))).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """Counts of customers by outcome, and how many dollars the speed layer has too much, for receipts."""
        kinds = Counter(row["drift"] for row in self.rows)
        return {
            "customers": self.customers,
            "agreeing": self.customers - len(self.rows),
            **{kind: kinds[kind] for kind in KINDS},
            "amount_difference": str(sum((row["amount_difference"] for row in self.rows), _NOTHING)),
            "drift_ratio": round(self.ratio, 6),
        }

    def _row(self, customer: str) -> dict[str, Any]:
        in_batch, in_speed = self.batch.get(customer), self.speed.get(customer)
        (batch_amount, batch_count), (speed_amount, speed_count) = in_batch or (None, None), in_speed or (None, None)
        return {
            "date": self.day,
            "customer_id": customer,
            "drift": "different" if in_batch and in_speed else "only_in_batch" if in_batch else "only_in_speed",
            "batch_amount": batch_amount,
            "speed_amount": speed_amount,
            "amount_difference": (speed_amount or _NOTHING) - (batch_amount or _NOTHING),
            "batch_count": batch_count,
            "speed_count": speed_count,
            "count_difference": (speed_count or 0) - (batch_count or 0),
        }


def schema() -> pa.Schema:
    """The columns of the lake's table of drift."""
    import pyarrow as pa

    money = pa.decimal128(18, 2)
    return pa.schema(
        [
            ("date", pa.date32()),
            ("customer_id", pa.string()),
            ("drift", pa.string()),
            ("batch_amount", money),
            ("speed_amount", money),
            ("amount_difference", money),
            ("batch_count", pa.int32()),
            ("speed_count", pa.int32()),
            ("count_difference", pa.int32()),
        ]
    )
