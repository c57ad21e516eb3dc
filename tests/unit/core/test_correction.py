"""Which record a person means."""

from __future__ import annotations

import pytest

from tallyclerk.core.correction import AskedCorrection


@pytest.mark.parametrize(
    ("named", "source", "is_meant"),
    [
        ("", "file:///landing/sales.csv", True),
        ("sales.csv", "file:///landing/sales.csv", True),
        ("file:///landing/sales.csv", "file:///landing/sales.csv", True),
        ("ales.csv", "file:///landing/sales.csv", False),
        ("sales/1", "kafka://127.0.0.1:9092/sales/1", True),
        ("sales/1", "kafka://127.0.0.1:9092/more.sales/1", False),
        ("sales/1", "kafka://127.0.0.1:9092/sales/11", False),
    ],
)
def test_a_record_is_meant_by_as_much_of_its_source_as_tells_it_apart(named: str, source: str, is_meant: bool) -> None:
    asked = AskedCorrection(0, "x", named)
    assert asked.is_of(source, 0) is is_meant
    assert not asked.is_of(source, 1)


def test_an_offset_may_be_zero_when_corrections_are_read() -> None:
    assert AskedCorrection.read_all([{"record_number": 0, "text": None}]) == [AskedCorrection(0, None)]
