"""Two layers' answers for a day: which customers differ, and by how much."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from tallyclerk.operators.kpi_drift import KpiDrift, schema
from tallyclerk.serving.kpi_view import KpiRow

DAY = date(2026, 3, 10)


def rows(layer: str, **customers: tuple[str, int]) -> list[KpiRow]:
    return [
        KpiRow(customer, DAY, Decimal(amount), count, Decimal(0), layer)  # type: ignore[arg-type]
        for customer, (amount, count) in customers.items()
    ]


def test_each_differing_customer_has_a_row_and_a_difference() -> None:
    drift = KpiDrift.between(
        DAY,
        rows("batch", same=("1.00", 1), dearer=("2.00", 2), more=("3.00", 1), gone=("4.00", 4)),
        rows("speed", same=("1.0", 1), dearer=("2.01", 2), more=("3.00", 2), new=("5.00", 5)),
    )
    assert [
        (row["customer_id"], row["drift"], str(row["amount_difference"]), row["count_difference"]) for row in drift.rows
    ] == [
        ("dearer", "different", "0.01", 0), ("gone", "only_in_batch", "-4.00", -4), ("more", "different", "0.00", 1),
        ("new", "only_in_speed", "5.00", 5),
    ]  # fmt: skip
    assert drift.facts() == {
        "customers": 5, "agreeing": 1, "only_in_batch": 1, "only_in_speed": 1, "different": 2,
        "amount_difference": "1.01", "drift_ratio": 0.8,
    }  # fmt: skip
    assert all(set(row) == set(schema().names) for row in drift.rows)


def test_an_average_is_no_drift_of_its_own() -> None:
    batch = [KpiRow("a", DAY, Decimal("1.00"), 3, Decimal("0.33"), "batch")]
    speed = [KpiRow("a", DAY, Decimal("1.00"), 3, Decimal("0.34"), "speed")]
    assert KpiDrift.between(DAY, batch, speed).rows == []


def test_a_day_without_sales_is_streamed_and_one_without_a_stream_is_not() -> None:
    some = rows("batch", a=("1.00", 1))
    assert KpiDrift.between(DAY, [], []).is_streamed
    assert KpiDrift.between(DAY, [], []).ratio == 0
    assert KpiDrift.between(DAY, [], some).is_streamed
    assert not KpiDrift.between(DAY, some, []).is_streamed


def test_the_fingerprint_changes_with_either_side() -> None:
    one, other = rows("batch", a=("1.00", 1), b=("2.00", 1)), rows("speed", a=("1.00", 2))
    found = {
        KpiDrift.between(DAY, *sides).fingerprint
        for sides in ((one, one), (one, other), (other, one), (one[::-1], one))
    }
    assert len(found) == 3  # the order of rows is no difference
