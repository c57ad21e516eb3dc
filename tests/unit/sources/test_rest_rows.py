"""JSON values and the contract's types: taken at their word, or named as what they are."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tallyclerk.contracts import load_contract
from tallyclerk.sources.rest_rows import RowReader

TYPES = {
    "t": ("string", "text"), "u": ("string", "uuid"), "b": ("boolean", "boolean"), "s": ("integer", "smallint"),
    "i": ("integer", "int"), "l": ("integer", "bigint"), "m": ("number", "decimal(12,2)"), "d": ("number", "double"),
    "day": ("date", "date"), "at": ("timestamp", "timestamp"), "tz": ("timestamp", "timestamptz"), "raw": ("string", "bytes"),
}  # fmt: skip


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> RowReader:
    columns = "".join(
        f"      - {{name: {name}, logicalType: {logical}, physicalType: '{physical}'}}\n"
        for name, (logical, physical) in TYPES.items()
    )
    path: Path = tmp_path_factory.mktemp("contract") / "all.odcs.yaml"
    path.write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: all\nname: all\nversion: 1.0.0\nstatus: active\n"
        "schema:\n  - name: all\n    properties:\n"
        "      - {name: id, logicalType: integer, physicalType: int, required: true, primaryKey: true}\n" + columns
    )
    return RowReader(load_contract(path))


def page(*values: str) -> bytes:
    """Records with ids from 1; each value is a JSON member."""
    return ("[" + ",".join(f'{{"id":{number},{value}}}' for number, value in enumerate(values, 1)) + "]").encode()


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ('"t":"Grüße \\u20ac"', "Grüße €"),
        ('"t":""', ""),
        ('"t":null', None),
        ('"u":"6ba7b810-9dad-11d1-80b4-00c04fd430c8"', "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
        ('"b":true', True),
        ('"s":-32768', -32768),
        ('"i":2147483647', 2147483647),
        ('"l":-9223372036854775808', -(2**63)),
        ('"m":1234567890.12', Decimal("1234567890.12")),
        ('"m":"1234567890.10"', Decimal("1234567890.10")),
        ('"m":-7', Decimal("-7.00")),
        ('"m":null', None),
        ('"d":1', 1.0),
        ('"d":1.5e-7', 1.5e-7),
        ('"day":"2026-02-28"', date(2026, 2, 28)),
        ('"at":"2026-03-29T02:30:00.000001"', datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=UTC)),
        ('"at":"2026-03-29 02:30:00"', datetime(2026, 3, 29, 2, 30, tzinfo=UTC)),
        ('"tz":"2026-10-25T02:30:00+02:00"', datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
        ('"tz":"2026-10-25T02:30:00Z"', datetime(2026, 10, 25, 2, 30, tzinfo=UTC)),
        ('"raw":"AP8="', b"\x00\xff"),
    ],
)
def test_a_value_is_read_exactly_when_it_has_its_columns_type(reader: RowReader, member: str, expected: Any) -> None:
    rows = reader.read(page(member))
    assert rows.problems == ()
    assert rows.rows.to_pylist()[0][member.split('"')[1]] == expected


@pytest.mark.parametrize(
    "member",
    [
        '"t":1', '"t":true', '"t":{}', '"u":"6ba7b810"', '"u":5', '"b":"true"', '"b":1', '"s":32768', '"i":"1"', '"i":1.5',
        '"i":2147483648', '"l":9223372036854775808', '"m":1.234', '"m":1e3', '"m":" 7 "', '"m":true', '"m":12345678901.00',
        '"m":"NaN"', '"d":"1"', '"d":1e999', '"day":"28.02.2026"', '"day":"2026-02-30"', '"day":20260228', '"at":"infinity"',
        '"at":"2026-03-29"', '"tz":"2026-10-25T25:00:00Z"', '"tz":1767225600', '"raw":"?"', '"raw":[1]',
    ],
)  # fmt: skip
def test_a_record_is_named_with_its_column_when_a_value_has_another_type(reader: RowReader, member: str) -> None:
    rows = reader.read(page('"t":"good"', member, '"t":"good too"'))
    assert [row["id"] for row in rows.rows.to_pylist()] == [1, 3]
    ((problem),) = rows.problems
    assert (problem.ordinal, problem.column, problem.reason) == (1, member.split('"')[1], "type")
    assert json.loads(problem.raw_text) == json.loads(page(member))[0] | {"id": 2}


def test_every_broken_column_is_named_when_a_record_has_several(reader: RowReader) -> None:
    rows = reader.read(page('"t":1,"b":2,"l":"3"'))
    assert [(problem.ordinal, problem.column) for problem in rows.problems] == [(0, "t"), (0, "b"), (0, "l")]
    assert rows.count == 1


def test_what_is_no_object_is_a_problem_of_the_whole_record(reader: RowReader) -> None:
    rows = reader.read(b'[5, {"id": 1}, null, [2]]')
    assert [(problem.ordinal, problem.reason) for problem in rows.problems] == [
        (0, "record"),
        (2, "record"),
        (3, "record"),
    ]
    assert rows.rows.num_rows == 1


def test_the_key_is_required(reader: RowReader) -> None:
    rows = reader.read(b'[{"id": null}, {"t": "x"}]')
    assert [(problem.column, problem.reason) for problem in rows.problems] == [("id", "required")] * 2


def test_a_key_that_the_contract_does_not_know_is_left_out(reader: RowReader) -> None:
    assert reader.read(b'[{"id": 1, "new": {"deep": [1]}}]').rows.num_rows == 1
