"""Messages decoded in columns, against fastavro and Python's own JSON, which encode and decode one value at a time."""

from __future__ import annotations

import io
import json
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyclerk.sources.kafka_decoding import DecodedMessages, FramedAvro, JsonObjects

TARGET = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("small", pa.int32()),
        pa.field("amount", pa.decimal128(12, 2)),
        pa.field("huge", pa.decimal128(38, 10)),
        pa.field("text", pa.string()),
        pa.field("ratio", pa.float64()),
        pa.field("flag", pa.bool_()),
        pa.field("day", pa.date32()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("raw", pa.binary()),
    ]
)
AVRO = {
    "id": {"type": "string", "logicalType": "uuid"},
    "number": "long",
    "small": ["null", "int"],
    "amount": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}],
    "huge": [{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 10}, "null"],
    "text": ["null", "string"],
    "ratio": ["null", "double"],
    "flag": ["null", "boolean"],
    "day": ["null", {"type": "int", "logicalType": "date"}],
    "at": ["null", {"type": "long", "logicalType": "timestamp-micros"}],
    "raw": ["null", "bytes"],
}
DAYS = st.dates(date(1, 1, 1), date(9999, 12, 31))
INSTANTS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999).map(
    lambda ticks: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks)
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.uuids().map(str),
            "number": st.integers(-(2**63), 2**63 - 1),
            "small": st.none() | st.integers(-(2**31), 2**31 - 1),
            "amount": st.none() | st.integers(-(10**12) + 1, 10**12 - 1).map(lambda cents: Decimal(cents).scaleb(-2)),
            "huge": st.none() | st.integers(-(10**38) + 1, 10**38 - 1).map(lambda digits: Decimal(f"{digits}E-10")),
            "text": st.none() | st.text(max_size=40),
            "ratio": st.none() | st.floats(allow_nan=False),
            "flag": st.none() | st.booleans(),
            "day": st.none() | DAYS,
            "at": st.none() | INSTANTS,
            "raw": st.none() | st.binary(max_size=300),
        }
    ),
    max_size=30,
)


def record(types: dict[str, Any]) -> dict[str, Any]:
    fields = [{"name": name, "type": kind} for name, kind in types.items()]
    return {"type": "record", "name": "row", "fields": fields}


def body(schema: dict[str, Any], row: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(schema), row)
    return written.getvalue()


def framed(schema_id: int, content: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + content


def message(schema: dict[str, Any], row: dict[str, Any], schema_id: int = 1) -> bytes:
    return framed(schema_id, body(schema, row))


def decode(schemas: dict[int, Any], values: list[bytes], target: pa.Schema = TARGET, uuids=("id",)) -> DecodedMessages:
    return FramedAvro(target, uuids, schemas.get).decode(values)


def reasons(decoded: DecodedMessages) -> dict[int, set[tuple[str, str]]]:
    found: dict[int, set[tuple[str, str]]] = {}
    for finding in decoded.findings:
        for row in finding.rows:
            found.setdefault(int(row), set()).add((finding.column, finding.reason))
    return found


def one_column(kind: Any, values: list[Any], target: pa.DataType, **options: Any) -> DecodedMessages:
    schema = record({"x": kind})
    messages = [message(schema, {"x": value}) for value in values]
    return decode({1: schema}, messages, pa.schema([pa.field("x", target)]), **{"uuids": (), **options})


# --- Avro -----------------------------------------------------------------------------------------------------------


@given(ROWS)
@settings(deadline=None, max_examples=30)
def test_rows_are_those_that_fastavro_wrote_whatever_the_values(rows: list[dict[str, Any]]) -> None:
    schema = record(AVRO)
    decoded = decode({1: schema}, [message(schema, row) for row in rows])
    assert decoded.findings == ()
    assert decoded.rows.schema == TARGET
    assert decoded.rows.to_pylist() == rows


@given(ROWS, st.lists(st.integers(0, 400), min_size=1, max_size=5))
@settings(deadline=None, max_examples=30)
def test_whole_messages_are_kept_when_others_are_cut_off_anywhere(rows: list[dict[str, Any]], cuts: list[int]) -> None:
    schema = record(AVRO)
    values = [message(schema, row) for row in rows]
    cut = {index: values[index][:place] for index, place in enumerate(cuts) if index < len(rows)}
    cut = {index: value for index, value in cut.items() if len(value) < len(values[index])}
    decoded = decode({1: schema}, [cut.get(index, value) for index, value in enumerate(values)])
    assert set(reasons(decoded)) == set(cut)
    assert decoded.rows.to_pylist() == [row for index, row in enumerate(rows) if index not in cut]


@given(st.lists(st.binary(max_size=80), max_size=20))
@settings(deadline=None, max_examples=30)
def test_every_message_is_a_row_or_has_a_finding_when_bytes_are_random(bodies: list[bytes]) -> None:
    """And whatever passes as a row is what fastavro reads, to the last byte."""
    schema = record({"number": "long", "text": ["null", "string"], "flag": "boolean"})
    target = pa.schema([("number", pa.int64()), ("text", pa.string()), ("flag", pa.bool_())])
    decoded = decode({1: schema}, [framed(1, content) for content in bodies], target, ())
    assert sorted([*decoded.kept, *reasons(decoded)]) == list(range(len(bodies)))
    for index, row in zip(decoded.kept, decoded.rows.to_pylist(), strict=True):
        reader = io.BytesIO(bodies[index])
        assert fastavro.schemaless_reader(reader, fastavro.parse_schema(schema), None) == row
        assert not reader.read()


def test_each_kind_of_bad_message_is_named_and_the_others_land() -> None:
    schema = record({"number": "long", "text": ["null", "string"], "flag": "boolean"})
    target = pa.schema(
        [pa.field("number", pa.int64()), pa.field("text", pa.string(), nullable=False), pa.field("flag", pa.bool_())]
    )
    good = {"number": 300, "text": "käse", "flag": True}
    values = {
        ("", "frame"): [b"", b"\0\0\0\0", b"\1" + message(schema, good)[1:], b'{"number": 1}'],
        ("", "schema_id"): [framed(2, body(schema, good))],
        ("number", "truncated"): [framed(1, b""), framed(1, b"\xff" * 30)],
        ("text", "truncated"): [framed(1, b"\x02\x02\x50abc"), framed(1, b"\x02\x02\x05")],
        ("text", "union"): [framed(1, b"\x02\x04\x02a\x01"), framed(1, b"\x02\x03\x02a\x01")],
        ("text", "type"): [framed(1, b"\x02\x02\x02\xff\x01")],
        ("text", "required"): [message(schema, {**good, "text": None})],
        ("flag", "type"): [framed(1, b"\x02\x02\x02a\x02")],
        ("", "length"): [message(schema, good) + b"\0"],
    }
    listed = [(reason, value) for reason, several in values.items() for value in several]
    messages = [message(schema, good), *(value for _, value in listed), message(schema, good)]
    decoded = decode({1: schema}, messages, target, ())
    assert reasons(decoded) == {index: {reason} for index, (reason, _) in enumerate(listed, start=1)}
    assert decoded.rows.to_pylist() == [good, good]
    assert list(decoded.kept) == [0, len(messages) - 1]


def test_rows_of_two_schema_versions_stand_in_the_messages_order() -> None:
    first = record({"id": "string", "number": "long"})
    second = record({"note": ["null", "string"], "number": "int", "small": ["null", "int"], "id": "string"})
    ids = [str(UUID(int=number)) for number in range(6)]
    values = [
        message(second, {"id": ids[n], "number": n, "small": n, "note": "x"}, 22)
        if n % 2
        else message(first, {"id": ids[n], "number": n}, 11)
        for n in range(6)
    ]
    decoded = decode({11: first, 22: second}, values)
    assert decoded.findings == ()
    assert [(row["id"], row["number"], row["small"], row["amount"]) for row in decoded.rows.to_pylist()] == [
        (ids[n], n, n if n % 2 else None, None) for n in range(6)
    ]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ({"type": "array", "items": "string"}, "array"),
        (["null", "string", "long"], "more than null"),
        ("string", "written as string"),
        ({"type": "long", "logicalType": "timestamp-micros"}, "timestamp-micros"),
        ("double", "written as double"),
    ],
)
def test_all_messages_of_a_schema_are_named_when_it_cannot_become_the_columns(kind: Any, said: str) -> None:
    schema, other = record({"x": kind}), record({"x": "int"})
    values = [framed(1, b"\x02\x02\x02"), message(other, {"x": 5}, 2)]
    decoded = decode({1: schema, 2: other}, values, pa.schema([("x", pa.int64())]), ())
    (finding,) = decoded.findings
    assert (finding.reason, list(finding.rows)) == ("schema", [0])
    assert said in finding.detail
    assert decoded.rows.to_pylist() == [{"x": 5}]


def test_a_schema_without_a_required_column_is_named() -> None:
    schema = record({"other": "int"})
    target = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    (finding,) = decode({1: schema}, [message(schema, {"other": 1})], target, ()).findings
    assert (finding.reason, "no field x" in finding.detail) == ("schema", True)


def test_fields_without_a_column_are_stepped_over() -> None:
    schema = record(
        {"a": ["null", "string"], "x": "long", "b": {"type": "fixed", "name": "f", "size": 3}, "c": "float"}
    )
    values = [message(schema, {"a": text, "x": 7, "b": b"abc", "c": 1.5}) for text in (None, "long " * 50)]
    assert decode({1: schema}, values, pa.schema([("x", pa.int64())]), ()).rows.to_pylist() == [{"x": 7}, {"x": 7}]


@pytest.mark.parametrize(
    ("kind", "values", "target", "expected"),
    [
        ("int", [1, -1], pa.float64(), [1.0, -1.0]),
        ("float", [0.5, -2.25], pa.float64(), [0.5, -2.25]),
        ("string", ["käse", ""], pa.binary(), ["käse".encode(), b""]),
        ("bytes", [b"abc"], pa.string(), ["abc"]),
        ({"type": "enum", "name": "e", "symbols": ["a", "b"]}, ["b", "a"], pa.string(), ["b", "a"]),
        ({"type": "long", "logicalType": "timestamp-millis"}, [1500], pa.timestamp("us", "UTC"), None),
        ("string", ["2026-03-01T10:00:00+02:00", "2026-03-01T08:00:00.000001"], pa.timestamp("us", "UTC"), None),
        ("string", ["12.50", "-0.01"], pa.decimal128(12, 2), [Decimal("12.50"), Decimal("-0.01")]),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 1},
            [Decimal("12.5")],
            pa.decimal128(12, 2),
            [Decimal("12.50")],
        ),
        (
            {"type": "fixed", "name": "d", "size": 16, "logicalType": "decimal", "precision": 38, "scale": 2},
            [Decimal("-12.51"), Decimal("1e30")],
            pa.decimal128(38, 2),
            [Decimal("-12.51"), Decimal("1e30")],
        ),
    ],
)
def test_values_are_exact_when_the_writers_type_is_another(
    kind: Any, values: list[Any], target: pa.DataType, expected: list[Any] | None
) -> None:
    if expected is None:
        expected = [
            datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value)
            if isinstance(value, int)
            else datetime.fromisoformat(value if "+" in value else value + "+00:00").astimezone(UTC)
            for value in values
        ]
    decoded = one_column(kind, values, target)
    assert decoded.findings == ()
    assert decoded.rows.column("x").to_pylist() == expected


@pytest.mark.parametrize(
    ("kind", "values", "target"),
    [
        ("long", [2**31, -(2**31) - 1], pa.int32()),
        ("int", [2**15], pa.int16()),
        ({"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}, [Decimal("10000000000.00")], pa.decimal128(12, 2)),
        ({"type": "bytes", "logicalType": "decimal", "precision": 60, "scale": 0}, [Decimal(10**40)], pa.decimal128(38, 0)),
        ({"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 0}, [Decimal(10**37)], pa.decimal128(37, 0)),
        ("string", ["1.005"], pa.decimal128(12, 2)),
        ("string", ["yesterday", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00.0000001Z"], pa.timestamp("us", "UTC")),
    ],
)  # fmt: skip
def test_a_value_is_rejected_when_its_column_cannot_hold_it_exactly(
    kind: Any, values: list[Any], target: pa.DataType
) -> None:
    decoded = one_column(kind, values, target)
    assert reasons(decoded) == {index: {("x", "type")} for index in range(len(values))}


@pytest.mark.parametrize("ticks", [253_402_300_800_000_000, -62_135_596_800_000_001, 2**63 - 1])
def test_an_instant_is_rejected_when_it_is_outside_the_calendar(ticks: int) -> None:
    schema = record({"x": {"type": "long", "logicalType": "timestamp-micros"}})
    plain = record({"x": "long"})
    decoded = decode({1: schema}, [message(plain, {"x": ticks})], pa.schema([("x", pa.timestamp("us", "UTC"))]), ())
    assert reasons(decoded) == {0: {("x", "type")}}


def test_uuids_are_stored_in_lower_case_and_others_rejected() -> None:
    target = pa.schema([("x", pa.string())])
    whole = str(UUID(int=2**127 + 10))
    for values in ([whole, whole.upper()], [whole, whole.upper(), "x", whole.replace("-", "_"), whole[:-1], "é" * 18]):
        schema = record({"x": "string"})
        decoded = decode({1: schema}, [message(schema, {"x": value}) for value in values], target, ("x",))
        assert decoded.rows.column("x").to_pylist() == [whole, whole]
        assert sorted(reasons(decoded)) == list(range(2, len(values)))
    fixed = record({"x": {"type": "fixed", "name": "u", "size": 16}})
    decoded = decode({1: fixed}, [message(fixed, {"x": UUID(whole).bytes})], target, ("x",))
    assert decoded.rows.column("x").to_pylist() == [whole]


# --- JSON -----------------------------------------------------------------------------------------------------------


def as_json(row: dict[str, Any]) -> bytes:
    import base64

    forms = {
        Decimal: str,
        date: date.isoformat,
        datetime: datetime.isoformat,
        bytes: lambda raw: base64.b64encode(raw).decode(),
    }
    content = {name: forms.get(type(value), lambda same: same)(value) for name, value in row.items()}
    return json.dumps(content, ensure_ascii=len(row["id"]) % 2 == 0).replace("Infinity", '"Infinity"').replace(
        '-"Infinity"', '"-Infinity"'
    ).encode("utf-8", "surrogatepass")  # fmt: skip


@given(ROWS)
@settings(deadline=None, max_examples=30)
def test_rows_are_those_that_were_written_as_json_whatever_the_values(rows: list[dict[str, Any]]) -> None:
    decoded = JsonObjects(TARGET, ("id",)).decode([as_json(row) for row in rows])
    assert decoded.findings == ()
    assert decoded.rows.to_pylist() == rows


def test_each_kind_of_bad_json_is_named_and_the_others_land() -> None:
    target = pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False),
            pa.field("amount", pa.decimal128(38, 2)),
            pa.field("text", pa.string()),
            pa.field("at", pa.timestamp("us", "UTC")),
        ]
    )
    bad = {
        ("", "json"): [b"", b" ", b"nope", b"[1]", b"null", b"7", b'{"number": 1} {"number": 2}', b'{"number": NaN}', b"{", b"\xff"],
        ("number", "required"): [b"{}", b'{"number": null}'],
        ("number", "type"): [b'{"number": 1.0}', b'{"number": "1"}', b'{"number": true}', b'{"number": 9223372036854775808}', b'{"number": 1e2}'],
        ("amount", "type"): [b'{"number": 1, "amount": 0.001}', b'{"number": 1, "amount": "x"}', b'{"number": 1, "amount": 1e36}'],
        ("text", "type"): [b'{"number": 1, "text": 1}', b'{"number": 1, "text": {}}', b'{"number": 1, "text": "\\ud800"}'],
        ("at", "type"): [b'{"number": 1, "at": 5}', b'{"number": 1, "at": "now"}'],
    }  # fmt: skip
    listed = [(reason, value) for reason, several in bad.items() for value in several]
    good = b'{"number": 7, "amount": 123456789012345678901234567890.12, "text": "\xc3\xa4\\n", "more": [1, {}]}'
    row = {"number": 7, "amount": Decimal("123456789012345678901234567890.12"), "text": "ä\n", "at": None}
    for values in ([value for _, value in listed for value in (good, value)], *([good, value] for _, value in listed)):
        decoded = JsonObjects(target).decode(values)
        assert list(decoded.kept) == list(range(0, len(values), 2))
        assert all(found == row for found in decoded.rows.to_pylist())
    every = [value for _, value in listed]
    assert reasons(JsonObjects(target).decode(every)) == {n: {reason} for n, (reason, _) in enumerate(listed)}


def test_an_object_over_several_lines_is_one_message() -> None:
    target = pa.schema([("number", pa.int64())])
    values = [b'{\n "number":\r\n 1}', b'{"number": 2}', b' {"number": 3}\n']
    assert JsonObjects(target).decode(values).rows.to_pylist() == [{"number": 1}, {"number": 2}, {"number": 3}]
