"""What every source owes: exact values, every record in the ledger, every bad one named, and a refusal where it must doubt."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from tallyclerk.contracts import load_contract
from tallyclerk.contracts.projections import arrow_schema
from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import TallyclerkError, TerminalError
from tests.contract.source_cases import CONTRACT, DAY, SOURCE_CASES, Sale, SourceCase

pytestmark = pytest.mark.integration
WINDOW = Window.of_day(DAY)
PLAIN = [Sale(1, Decimal("1.50"), "a"), Sale(2, Decimal("2.50"), "b"), Sale(3, Decimal("3.50"), None)]
HOSTILE = [
    Sale(-(2**63), Decimal("-9999999999.99"), 'comma, "quote" and \\ backslash'),
    Sale(2**63 - 1, Decimal("9999999999.99"), "two\nlines"),
    Sale(0, Decimal("0.00"), None),
    Sale(1, Decimal("0.01"), "Zürich ☃ 👩‍👩‍👧 e\u0301"),
    Sale(2, Decimal("-0.01"), "\u202eright to left\u202c"),
    Sale(3, Decimal("1.10"), "  spaces around\t"),
    Sale(4, Decimal("1.20"), "NULL"),
    Sale(5, Decimal("1.30"), "\\N"),
    Sale(6, Decimal("1.40"), "'; DROP TABLE sales; --"),
]


@pytest.fixture(params=SOURCE_CASES)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SourceCase]:
    document = tmp_path / "sales.odcs.yaml"
    document.write_text(CONTRACT, encoding="utf-8")
    (tmp_path / "delivered").mkdir()
    with SOURCE_CASES[request.param](load_contract(document), tmp_path / "delivered") as made:
        yield made


def extract(case: SourceCase, tmp_path: Path) -> Extract:
    directory = tmp_path / uuid4().hex
    directory.mkdir()
    return case.source().extract(WINDOW, directory)


def sales_of(found: Extract) -> list[Sale]:
    """The spooled rows by id; their count is held to the ledger's."""
    tables = [pq.read_table(file.path) for file in found.files]
    assert [table.num_rows for table in tables] == [file.rows for file in found.files]
    rows = [Sale(**row) for table in tables for row in table.to_pylist()]
    assert found.ledger.check(load="sales").written == len(rows)
    return sorted(rows, key=lambda sale: (sale.id, str(sale.note)))


def test_every_value_is_exact_when_values_are_hostile(case: SourceCase, tmp_path: Path) -> None:
    case.deliver(HOSTILE)
    found = extract(case, tmp_path)
    assert sales_of(found) == sorted(HOSTILE)
    assert found.ledger == Ledger(read=len(HOSTILE), written=len(HOSTILE))
    assert found.rejects is None
    wanted = {field.name: field.type for field in arrow_schema(case.source().contract)}  # type: ignore[attr-defined]
    assert [{f.name: f.type for f in pq.read_schema(file.path)} for file in found.files] == [wanted]


def test_a_record_is_named_in_quarantine_when_a_required_value_is_null(case: SourceCase, tmp_path: Path) -> None:
    case.deliver([PLAIN[0], Sale(2, None, "no amount"), PLAIN[2]])
    found = extract(case, tmp_path)
    assert sales_of(found) == [PLAIN[0], PLAIN[2]]
    assert found.ledger == Ledger(read=3, written=2, rejected=1)
    assert found.rejects
    (reject,) = pq.read_table(found.rejects.path).to_pylist()
    assert (reject["dataset"], reject["window"], reject["column"]) == ("sales", "2026-03-01", "amount")
    assert (reject["record_number"], reject["contract_version"]) == (2, "1.2.0")
    assert reject["reason"]
    assert "no amount" in reject["raw_text"]
    assert reject["source"] in [source["uri"] for source in found.sources]


def test_every_record_is_accounted_for_when_some_are_delivered_twice(case: SourceCase, tmp_path: Path) -> None:
    corrected = Sale(2, Decimal("9.99"), "corrected")
    case.deliver([*PLAIN, PLAIN[0], corrected])
    found = extract(case, tmp_path)
    if case.keeps_one_row_a_key:
        assert sales_of(found) == [PLAIN[0], corrected, PLAIN[2]]
        assert found.ledger == Ledger(read=5, written=3, deduplicated=2)
    else:
        assert sales_of(found) == [PLAIN[0], PLAIN[0], PLAIN[1], corrected, PLAIN[2]]
        assert found.ledger == Ledger(read=5, written=5)


def test_the_rows_are_the_same_when_a_window_is_read_twice(case: SourceCase, tmp_path: Path) -> None:
    case.deliver(PLAIN)
    before = case.source().fingerprint(WINDOW)
    first, second = extract(case, tmp_path), extract(case, tmp_path)
    assert sales_of(first) == sales_of(second) == PLAIN
    assert (first.ledger, first.cursor) == (second.ledger, second.cursor)
    case.deliver(PLAIN[:2])
    changed = case.source().fingerprint(WINDOW)
    if case.tells_changes:
        assert first.fingerprint == second.fingerprint == before != changed
        assert before
    else:  # an empty one never makes a load be taken for a repeated one
        assert {first.fingerprint, second.fingerprint, before, changed} == {""}


def test_only_the_windows_rows_come_when_other_days_are_there(case: SourceCase, tmp_path: Path) -> None:
    case.deliver(PLAIN)
    for days in (-1, 1):
        other = DAY + timedelta(days=days)
        case.deliver([Sale(100 + days, Decimal("5.00"), "another day", other)], day=other)
    assert sales_of(extract(case, tmp_path)) == PLAIN


def test_the_ledger_closes_when_a_window_has_no_rows(case: SourceCase, tmp_path: Path) -> None:
    case.deliver([])
    found = extract(case, tmp_path)
    assert sales_of(found) == []
    assert found.ledger == Ledger()


def test_the_load_is_refused_when_a_column_has_another_name(case: SourceCase, tmp_path: Path) -> None:
    case.deliver(PLAIN)
    case.rename_column("amount", "amount_usd")
    with pytest.raises(TerminalError, match="amount"):
        extract(case, tmp_path)


def test_nothing_is_handed_over_when_the_delivery_breaks_off(case: SourceCase, tmp_path: Path) -> None:
    many = [Sale(number, Decimal(number), f"note {number}") for number in range(1, 2001)]
    case.deliver(many)
    assert len(sales_of(extract(case, tmp_path))) == 2000
    case.cut_off()
    with pytest.raises(TallyclerkError):
        extract(case, tmp_path)
