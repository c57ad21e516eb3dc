"""What every sink owes: a window's rows are exactly those of its last load, whole or not at all, and the receipt says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import SchemaMismatchError, TransientError
from tests.contract.sink_cases import SINK_CASES, SinkCase
from tests.integration.cassandra.upsert_case import expected_sales, sales

pytestmark = pytest.mark.integration
DAY, NEXT_DAY = date(2026, 3, 1), date(2026, 3, 2)
HOSTILE = sales(
    5,
    household=[-(2**63), 2**63 - 1, 0, 1, 2],
    amount=[Decimal("-9999999999.99"), Decimal("9999999999.99"), Decimal("0.00"), None, Decimal("0.01")],
    quantity=[2**31 - 1, -(2**31), None, 0, 1],
    note=["Zürich ☃ 👩‍👩‍👧 e\u0301", None, "two\nlines", "", "'; DROP TABLE sales; --"],
)


@pytest.fixture(params=SINK_CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SinkCase]:
    with SINK_CASES[request.param](tmp_path) as made:
        yield made


def test_every_value_is_exact_and_the_receipt_counts_it_when_values_are_hostile(case: SinkCase) -> None:
    receipt = case.write(HOSTILE, DAY)
    assert case.rows() == expected_sales(HOSTILE)
    assert (receipt.window, receipt.ledger) == ("2026-03-01", Ledger(read=5, written=5))
    assert Receipt.from_json(json.dumps(receipt.as_dict())) == receipt


def test_the_rows_are_those_of_one_load_when_it_is_repeated(case: SinkCase) -> None:
    rows = sales(200)
    ledgers = [case.write(rows, DAY).ledger for _ in range(2)]
    assert ledgers == [Ledger(read=200, written=200)] * 2
    assert case.rows() == expected_sales(rows)


def test_only_the_windows_rows_change_when_a_correction_drops_some(case: SinkCase) -> None:
    other = sales(10, first=1000)
    case.write(sales(50), DAY)
    case.write(other, NEXT_DAY)
    corrected = sales(20, note=[None] * 20)
    case.write(corrected, DAY)
    assert case.rows() == {**expected_sales(corrected), **expected_sales(other)}


def test_a_window_is_emptied_when_its_load_has_no_rows(case: SinkCase) -> None:
    case.write(sales(10), DAY)
    receipt = case.write(sales(0), DAY)
    assert receipt.ledger == Ledger()
    assert case.rows() == {}


def test_there_is_one_answer_when_two_loads_run_at_once(case: SinkCase) -> None:
    rows = sales(300)
    case.write(sales(10), DAY)  # what is there is replaced by both

    def attempt(_: int) -> Receipt | TransientError:
        try:
            return case.write(rows, DAY)
        except TransientError as error:  # the slower one may be told to try again
            return error

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, range(2)))
    done = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
    assert done, outcomes
    assert {receipt.ledger for receipt in done} == {Ledger(read=300, written=300)}
    if len(done) < 2:
        case.write(rows, DAY)
    assert case.rows() == expected_sales(rows)


def test_the_load_is_refused_when_the_table_has_another_column_type(case: SinkCase) -> None:
    case.change_schema()
    with pytest.raises(SchemaMismatchError, match="amount"):
        case.write(sales(3), DAY)
    assert case.rows() == {}
