"""Keys of tombstones, in the forms of Flink and of our own sinks."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from tallyclerk.sinks.kafka_encoding import JsonEncoder
from tallyclerk.sources.message_keys import MessageKeys

TWO = pa.schema([pa.field("customer_id", pa.string(), nullable=False), pa.field("date", pa.date32(), nullable=False)])
ROWS = pa.table({"customer_id": ["7", 'a "b" ü'], "date": [date(2026, 3, 10), date(2026, 3, 11)]}, schema=TWO)


def test_a_key_is_read_when_it_is_an_object_or_an_array() -> None:
    arrays = JsonEncoder(TWO, ["customer_id", "date"]).keys(ROWS).to_pylist()
    objects = [b'{"date":"2026-03-10","customer_id":"7"}', b'{"customer_id":"a \\"b\\" \xc3\xbc","date":"2026-03-11"}']
    for keys in (arrays, objects):
        found = MessageKeys(TWO).decode(keys)
        assert found.findings == ()
        assert found.rows.to_pylist() == ROWS.to_pylist()


@pytest.mark.parametrize(
    ("kind", "value"),
    [(pa.int64(), -12), (pa.string(), "12"), (pa.string(), '["x"]'), (pa.date32(), date(2026, 3, 10))],
)
def test_a_single_columns_key_is_read_when_it_is_plain_text(kind: pa.DataType, value: object) -> None:
    schema = pa.schema([pa.field("id", kind, nullable=False)])
    keys = JsonEncoder(schema, ["id"]).keys(pa.table({"id": [value]}, schema=schema)).to_pylist()
    assert MessageKeys(schema).decode(keys).rows.to_pylist() == [{"id": value}]


@pytest.mark.parametrize(
    "key", [b"", b"\xff", b'["7"]', b'["7","2026-03-10",1]', b"7", b'{"customer_id":"7"}', b'["7","soon"]']
)
def test_a_key_is_found_when_it_is_none_of_the_contracts(key: bytes) -> None:
    good = b'["7","2026-03-10"]'
    found = MessageKeys(TWO).decode([good, key])
    assert list(found.kept) == [0]
    assert {int(row) for finding in found.findings for row in finding.rows} == {1}
