"""Column-wise encoding against the driver's own types, value by value."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from cassandra import cqltypes
from cassandra.query import UNSET_VALUE
from hypothesis import given
from hypothesis import strategies as st

from tallyclerk.exceptions import RecordError, SpecError
from tallyclerk.sinks.cassandra_table import TargetColumn, TargetTable
from tallyclerk.sinks.cassandra_values import encode_column, encoders

WIRE = 5


def encode(values: pa.Array, cql_type: str, *, is_key: bool = False) -> list[Any]:
    column = TargetColumn("c", "c", cql_type)
    target = TargetTable("k", "t", (column,), ("c",))
    (encoder,) = encoders(target, pa.schema([("c", values.type)]))
    return encode_column(column, values, encoder, is_key=is_key)


@given(st.lists(st.integers(-(10**18) + 1, 10**18 - 1), max_size=30), st.integers(0, 18), st.integers(0, 3))
def test_short_decimals_are_the_drivers_bytes(numbers: list[int], scale: int, offset: int) -> None:
    values = [Decimal(number).scaleb(-scale) for number in numbers]
    array = pa.array(values, pa.decimal128(18, scale)).slice(offset)
    assert encode(array, "decimal") == [cqltypes.DecimalType.serialize(value, WIRE) for value in values[offset:]]


@given(st.lists(st.decimals(-(10**27), 10**27, places=10), max_size=20))
def test_long_decimals_are_the_drivers_bytes(values: list[Decimal]) -> None:
    encoded = encode(pa.array(values, pa.decimal128(38, 10)), "decimal")
    # the driver writes a negative zero and a positive one alike
    assert encoded == [cqltypes.DecimalType.serialize(value, WIRE) for value in values]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=20))
def test_text_is_utf8(values: list[str]) -> None:
    assert encode(pa.array(values, pa.string()), "text") == [value.encode() for value in values]


@given(st.lists(st.uuids(), max_size=20), st.booleans())
def test_uuids_are_their_bytes(values: list[uuid.UUID], capitals: bool) -> None:
    texts = [str(value).upper() if capitals else str(value) for value in values]
    assert encode(pa.array(texts, pa.string()), "uuid") == [value.bytes for value in values]


@given(st.lists(st.dates(), max_size=20))
def test_dates_are_the_drivers_bytes(values: list[date]) -> None:
    expected = [cqltypes.SimpleDateType.serialize(value, WIRE) for value in values]
    assert encode(pa.array(values, pa.date32()), "date") == expected


@given(st.lists(st.integers(-62_135_596_800_000, 253_402_300_799_999), max_size=20))
def test_timestamps_are_milliseconds_of_utc(values: list[int]) -> None:
    instants = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=value) for value in values]
    encoded = encode(pa.array(instants, pa.timestamp("us", "UTC")), "timestamp")
    assert encoded == [value.to_bytes(8, "big", signed=True) for value in values]


@pytest.mark.parametrize(("cql_type", "bits"), [("tinyint", 8), ("smallint", 16), ("int", 32), ("bigint", 64)])
def test_integers_are_big_endian(cql_type: str, bits: int) -> None:
    values = [-(2 ** (bits - 1)), -1, 0, 2 ** (bits - 1) - 1]
    encoded = encode(pa.array(values, pa.int64()), cql_type)
    assert encoded == [value.to_bytes(bits // 8, "big", signed=True) for value in values]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=20))
def test_varints_are_the_drivers_bytes(values: list[int]) -> None:
    expected = [cqltypes.IntegerType.serialize(value, WIRE) for value in values]
    assert encode(pa.array(values, pa.int64()), "varint") == expected


@given(st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=20))
def test_nulls_are_unset(values: list[int | None]) -> None:
    encoded = encode(pa.array(values, pa.int32()), "int")
    assert [value is UNSET_VALUE for value in encoded] == [value is None for value in values]


@pytest.mark.parametrize(
    ("values", "cql_type", "reason"),
    [
        (pa.array([2**31], pa.int64()), "int", "2147483648"),
        (pa.array([datetime(2020, 1, 1, microsecond=1, tzinfo=UTC)], pa.timestamp("us", "UTC")), "timestamp", "finer than"),
        (pa.array(["123"]), "uuid", "'123' is not a UUID"),
        (pa.array([uuid.uuid4().hex]), "uuid", "canonical"),
        (pa.array(["é"]), "ascii", "beyond ASCII"),
    ],
)  # fmt: skip
def test_a_value_is_refused_when_it_does_not_fit(values: pa.Array, cql_type: str, reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        encode(values, cql_type)


def test_a_null_is_refused_when_it_is_in_the_key() -> None:
    with pytest.raises(RecordError, match="1 nulls in a key column"):
        encode(pa.array([1, None], pa.int32()), "int", is_key=True)


def test_every_problem_is_named_when_types_do_not_fit() -> None:
    columns = (TargetColumn("a", "a", "decimal"), TargetColumn("b", "gone", "int"), TargetColumn("d", "d", "float"))
    schema = pa.schema([("a", pa.float64()), ("d", pa.float64())])
    with pytest.raises(SpecError) as caught:
        encoders(TargetTable("k", "t", columns, ("a",)), schema)
    for part in ("t.a: double", "no column 'gone'", "t.d: double"):
        assert part in str(caught.value)
