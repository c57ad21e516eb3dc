"""Two lists of sales: which sales only one has, or with another amount."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

from tallyclerk.operators.sale_drift import compare_sales, of_customers

MONEY = pa.decimal128(12, 2)
Sale = tuple[str, int, str]


def table(*sales: Sale) -> pa.Table:
    ids, households, amounts = zip(*sales, strict=True) if sales else ((), (), ())
    return pa.table(
        {
            "transaction_id": pa.array(ids, pa.string()),
            "household_id": pa.array(households, pa.int64()),
            "sales_value": pa.array([Decimal(amount) for amount in amounts], MONEY),
        }
    )


def found(loaded: list[Sale], streamed: list[Sale]) -> list[tuple[str, ...]]:
    rows = compare_sales(table(*loaded), table(*streamed)).to_pylist()
    return [
        tuple(str(row[name]) for name in ("transaction_id", "customer_id", "drift", "amount_difference"))
        for row in rows
    ]


def test_nothing_is_found_when_both_have_the_same_sales_in_another_order() -> None:
    assert found([("a", 1, "1.00"), ("b", 2, "2.00")], [("b", 2, "2.00"), ("A", 1, "1.00")]) == []
    assert found([], []) == []


def test_a_sale_is_found_when_one_side_lacks_it_or_has_another_amount() -> None:
    loaded, streamed = [("a", 1, "1.00"), ("b", 1, "2.00")], [("b", 1, "2.50"), ("c", 2, "4.00")]
    assert found(loaded, streamed) == [
        ("a", "1", "only_in_batch", "-1.00"), ("b", "1", "different", "0.50"), ("c", "2", "only_in_stream", "4.00"),
    ]  # fmt: skip


def test_the_first_message_counts_when_a_sale_is_sent_twice() -> None:
    assert found([("a", 1, "1.00")], [("a", 1, "1.00"), ("a", 1, "9.00")]) == []
    assert found([("a", 1, "9.00")], [("a", 1, "1.00"), ("a", 1, "9.00")]) == [("a", "1", "different", "-8.00")]


def test_a_free_sale_is_found_only_when_the_other_side_was_paid_for_it() -> None:
    assert found([], [("a", 1, "0.00")]) == []
    assert found([("b", 1, "1.00")], [("b", 1, "0.00")]) == [("b", "1", "different", "-1.00")]


def test_a_sale_is_found_for_both_customers_when_the_sides_give_it_to_different_ones() -> None:
    assert found([("a", 1, "1.00")], [("a", 2, "1.00")]) == [
        ("a", "1", "only_in_batch", "-1.00"), ("a", "2", "only_in_stream", "1.00"),
    ]  # fmt: skip


def test_only_the_asked_customers_sales_are_kept() -> None:
    sales = table(("a", 1, "1.00"), ("b", 11, "1.00"))
    assert of_customers(sales, ["1", "only-text"])["transaction_id"].to_pylist() == ["a"]
