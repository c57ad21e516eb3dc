"""The encoders against fastavro, Confluent's deserializer and Python's json, on hostile values."""

from __future__ import annotations

import base64
import io
import json
import math
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallyclerk.contracts.avro_projection import avro_schema_of
from tallyclerk.exceptions import RecordError, SpecError
from tallyclerk.sinks.avro_columns import encode_rows
from tallyclerk.sinks.kafka_encoding import JsonEncoder

UTC_TIME = pa.timestamp("us", tz="UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXACT = Context(prec=60)


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    largest = 10**precision - 1
    near_bytes = st.sampled_from(
        [sign * (2**bit + off) for bit in range(124) for sign in (1, -1) for off in (-1, 0, 1)]
    )
    unscaled = st.integers(-largest, largest) | near_bytes.filter(lambda value: abs(value) <= largest)
    return unscaled.map(lambda value: Decimal(value).scaleb(-scale, context=EXACT))


TEXT = st.text(st.characters(codec="utf-8"), max_size=70)
KINDS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), TEXT),
    "large_text": (pa.large_string(), TEXT),
    "truth": (pa.bool_(), st.booleans()),
    "small": (pa.int16(), integers(16)),
    "whole": (pa.int32(), integers(32)),
    "big": (pa.int64(), integers(64)),
    "unsigned": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "amount": (pa.decimal128(12, 2), decimals(12, 2)),
    "edge": (pa.decimal128(19, 4), decimals(19, 4)),
    "fine": (pa.decimal128(18, 9), decimals(18, 9)),
    "huge": (pa.decimal128(38, 3), decimals(38, 3)),
    "single": (pa.float32(), st.floats(width=32)),
    "measure": (pa.float64(), st.floats()),
    "day": (pa.date32(), st.dates()),
    "moment": (
        UTC_TIME,
        st.datetimes(timezones=st.just(UTC)),
    ),
    "octets": (pa.binary(), st.binary(max_size=70)),
}
SCHEMA = pa.schema(
    [pa.field(f"{name}_{'optional' if optional else 'required'}", type_, nullable=optional)
     for name, (type_, _) in KINDS.items() for optional in (False, True)]
)  # fmt: skip
ROW = st.fixed_dictionaries(
    {
        f"{name}_{'optional' if optional else 'required'}": st.none() | values if optional else values
        for name, (_, values) in KINDS.items()
        for optional in (False, True)
    }
)
FEW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def table(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


def same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(found, float):
        return struct.pack("<d", found) == struct.pack("<d", wanted) or (math.isnan(found) and math.isnan(wanted))
    return type(found) is type(wanted) and found == wanted


def avro_rows(rows: pa.Table, schema: pa.Schema) -> list[Any]:
    parsed = fastavro.parse_schema(avro_schema_of(schema, name="hostile", namespace="tests"))
    (batch,) = rows.combine_chunks().to_batches()
    bodies = encode_rows(batch).to_pylist()
    found = []
    for body in bodies:
        stream = io.BytesIO(body)
        found.append(fastavro.schemaless_reader(stream, parsed, None))
        assert stream.read() == b""
    return found


@FEW
@given(st.lists(ROW, min_size=1, max_size=4))
def test_fastavro_reads_the_rows_when_they_were_encoded_in_columns(rows: list[dict[str, Any]]) -> None:
    wanted = table(rows).to_pylist()
    found = avro_rows(table(rows), SCHEMA)
    assert [
        [name for name in row if not same(row[name], want[name])] for row, want in zip(found, wanted, strict=True)
    ] == [[] for _ in rows]


def as_json(value: Any, kind: str) -> Any:
    """A value as the module's table says, by Python's own means."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds").removesuffix("+00:00").rjust(26, "0") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def refuse_constant(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


@FEW
@given(st.lists(ROW, min_size=1, max_size=4))
def test_python_reads_the_rows_when_they_were_written_as_json_columns(rows: list[dict[str, Any]]) -> None:
    encoded = JsonEncoder(SCHEMA, ["big_required"]).encode(table(rows))
    for row, key, value in zip(
        table(rows).to_pylist(), encoded.keys.to_pylist(), encoded.values.to_pylist(), strict=True
    ):
        found = json.loads(value.decode(), parse_constant=refuse_constant, parse_int=str)
        assert list(found) == SCHEMA.names
        for name, want in row.items():
            wanted = as_json(want, name)
            if isinstance(wanted, float):
                width = "<f" if name.startswith("single") else "<d"
                assert struct.pack(width, float(found[name])) == struct.pack(width, wanted), name
            else:
                assert same(found[name], str(wanted) if type(wanted) is int else wanted), name
        assert key == str(row["big_required"]).encode()


def test_slices_encode_as_whole_tables_do_when_buffers_do_not_begin_at_the_first_row() -> None:
    rows = table(
        [
            {**dict.fromkeys(SCHEMA.names),
                "text_required": f'"{number}\\\n', "large_text_required": "ü" * number, "truth_required": bool(number % 2),
                "small_required": number, "whole_required": -number, "big_required": number**5, "unsigned_required": number,
                "amount_required": Decimal(number), "edge_required": Decimal(-number), "fine_required": Decimal(0),
                "huge_required": Decimal(10) ** number, "single_required": 0.5, "measure_required": math.nan,
                "day_required": date(1969, 12, 31), "moment_required": EPOCH - timedelta(microseconds=number),
                "octets_required": bytes([number])
            }
            for number in range(20)
        ]
    )  # fmt: skip
    sliced = rows.slice(7, 6)
    copied = table(sliced.to_pylist())
    (own,), (other,) = sliced.to_batches(), copied.to_batches()
    assert encode_rows(own).to_pylist() == encode_rows(other).to_pylist()
    encoder = JsonEncoder(SCHEMA, ["text_required", "small_required"])
    assert encoder.encode(sliced).values.to_pylist() == encoder.encode(copied).values.to_pylist()
    assert encoder.encode(sliced).keys.to_pylist() == encoder.encode(copied).keys.to_pylist()


def test_a_key_is_a_json_array_when_several_columns_make_it() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int32()), ("c", pa.decimal128(5, 2))])
    rows = pa.table({"a": ['x"', "y"], "b": [1, 2], "c": [Decimal("1.50"), Decimal("-2.00")]}, schema=schema)
    keys = JsonEncoder(schema, ["a", "b", "c"]).encode(rows).keys.to_pylist()
    assert [json.loads(key) for key in keys] == [['x"', 1, "1.50"], ["y", 2, "-2.00"]]


def test_rows_are_refused_when_one_has_no_key() -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.int32())])
    rows = pa.table({"a": ["x", None], "b": [1, 2]}, schema=schema)
    with pytest.raises(RecordError, match=r"1 of 2 rows have no value in the key column 'a'"):
        JsonEncoder(schema, ["a"]).encode(rows)


def test_rows_are_refused_when_a_required_column_is_null() -> None:
    schema = pa.schema([pa.field("a", pa.string()), pa.field("b", pa.int32(), nullable=False)])
    rows = pa.table({"a": ["x", "y"], "b": [1, None]})
    with pytest.raises(RecordError, match="Nothing was sent"):
        JsonEncoder(schema, ["a"]).encode(rows.cast(pa.schema([("a", pa.string()), ("b", pa.int32())])))


def test_an_encoder_is_refused_when_its_key_is_no_column() -> None:
    with pytest.raises(SpecError, match="'z'"):
        JsonEncoder(pa.schema([("a", pa.string())]), ["z"])


def test_an_encoder_is_refused_when_a_column_has_no_form() -> None:
    with pytest.raises(SpecError, match=r"a: list<.*cast it to text"):
        JsonEncoder(pa.schema([("a", pa.list_(pa.int32()))]), ["a"])


def test_rows_are_refused_when_they_are_of_another_schema() -> None:
    with pytest.raises(SpecError, match="was made for"):
        JsonEncoder(pa.schema([("a", pa.string())]), ["a"]).encode(pa.table({"b": ["x"]}))


def test_nothing_comes_out_when_no_row_goes_in() -> None:
    messages = JsonEncoder(SCHEMA, ["big_required"]).encode(SCHEMA.empty_table())
    assert len(messages) == 0
    assert messages.values.to_pylist() == []


def test_each_message_begins_with_the_header_when_there_is_one() -> None:
    schema = pa.schema([pa.field("a", pa.string(), nullable=False), ("b", pa.int32())])
    rows = pa.table({"a": ["x", "y", "zz"], "b": [1, None, -2]}, schema=schema)
    (batch,) = rows.to_batches()
    bodies = encode_rows(batch).to_pylist()
    assert encode_rows(batch, header=b"\0\0\0\0*").to_pylist() == [b"\0\0\0\0*" + body for body in bodies]
    (constants,) = pa.table({"a": ["x"] * 3, "b": [1] * 3}, schema=schema).to_batches()
    assert encode_rows(constants, header=b"\0\0\0\0*").to_pylist() == [b"\0\0\0\0*\2x\2\2"] * 3
