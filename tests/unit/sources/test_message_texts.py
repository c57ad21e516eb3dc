"""Corrected messages are judged as loads judge them, and rejected ones shown as far as they can be read."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.sources.message_texts import rows_of, text_of

ORDERS = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
schema:
  - name: orders
    logicalType: object
    physicalType: topic
    customProperties:
      - {property: kafka, value: {topic: orders, key: [id]}}
    properties:
      - {name: id, logicalType: string, physicalType: uuid, required: true, primaryKey: true}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true, logicalTypeOptions: {minimum: 0}}
      - {name: cents, logicalType: integer, physicalType: bigint, required: true, transformSourceObjects: [amount], transformLogic: "CAST(amount * 100 AS BIGINT)"}
"""
ID = "5d41402a-bc4b-4a76-b971-9d911017c592"


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    path = tmp_path_factory.mktemp("contracts") / "orders.odcs.yaml"
    path.write_text(ORDERS)
    return load_contract(str(path))


def order(**values: object) -> str:
    return json.dumps({"id": ID, "amount": "1.50", **values})


def test_derived_columns_are_derived_anew_when_a_correction_states_them(contract: Contract) -> None:
    rows, wrong = rows_of([order(cents=7), order(amount=2)], contract, change_events=False)
    assert wrong == [[], []]
    assert rows.to_pylist() == [
        {"id": ID, "amount": Decimal("1.50"), "cents": 150}, {"id": ID, "amount": Decimal("2.00"), "cents": 200},
    ]  # fmt: skip


def test_each_text_has_its_own_mistakes_when_several_are_judged(contract: Contract) -> None:
    texts = [order(), order(amount="1.505"), order(amount=-1, note=1), order(id=None), "[]", "\ud800"]
    rows, wrong = rows_of(texts, contract, change_events=False)
    assert rows.num_rows == 1
    assert [[mistake.partition(":")[0].split(" ")[0] for mistake in found] for found in wrong] == [
        [], ["amount"], ["'note'", "amount"], ["id"], ["json"], ["json"],
    ]  # fmt: skip
    assert "rule:" in wrong[2][1]


def test_a_change_event_has_the_columns_of_changes(contract: Contract) -> None:
    event = {"id": ID, "__op": "d", "__deleted": True}
    rows, wrong = rows_of([json.dumps(event), order(cents=1, __op="c", __deleted=False)], contract, change_events=True)
    assert wrong == [[], ["'cents' is no column of the contract"]]
    assert rows.to_pylist()[0] == {
        "id": ID,
        "amount": None,
        "__op": "d",
        "__lsn": None,
        "__ts_ms": None,
        "__deleted": True,
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'{"id": "k\xc3\xa4se"}\n', '{"id": "käse"}\n'),
        (b"{", "{"),
        (b"\xff", None),
        (b"\0\0\0\0\1", None),
        (b"", None),
    ],
)
def test_a_message_is_shown_as_text_when_it_is_some(value: bytes, text: str | None) -> None:
    assert text_of(value, None) == text
