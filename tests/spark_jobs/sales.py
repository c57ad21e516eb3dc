"""Sales as plain Python values, and the rule of the cleaning written once more without Spark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

DAY_ONE = date(2026, 1, 30)  # so that the days of a test cross a month


def day(number: int) -> date:
    return DAY_ONE + timedelta(days=number)


@dataclass(frozen=True, order=True)
class Sale:
    """One raw row: ``arrived`` in a window, ``sold`` on a day."""

    key: str
    arrived: date
    sold: date
    cents: int
    household: int = 1

    @property
    def amount(self) -> Decimal:
        return Decimal(self.cents) / 100

    def columns(self) -> tuple[object, ...]:
        """In the order of ``PROCESSED``."""
        at = datetime.combine(self.sold, time(12, 0), UTC)
        none = Decimal("0.00")
        return (self.key, self.household, 1, 1, "p", 1, self.amount, none, none, none, 1, at, self.sold, self.arrived)


def current(sales: Iterable[Sale], *, early: int, late: int) -> set[Sale]:
    """What the lake must hold: each sale's newest version, counting for a day only what arrived in time for that day."""
    valid = [sale for sale in sales if -early <= (sale.arrived - sale.sold).days <= late]
    kept = set()
    for sale in valid:
        rank = (sale.arrived, sale.sold, sale.household, sale.cents)
        newer = [
            other
            for other in valid
            if other.key == sale.key and (other.arrived, other.sold, other.household, other.cents) > rank
        ]
        if not any((other.arrived - sale.sold).days <= late for other in newer):
            kept.add(sale)
    return kept
