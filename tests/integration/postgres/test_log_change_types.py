"""A value is the same from the log as from the table: the driver's binary against our reading of texts."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from tallyclerk.sources.database_log import LogChanges
from tests.integration.postgres.capturing import capture, item_contract

pytestmark = pytest.mark.integration

# column: PostgreSQL's type, the contract's type, values
TYPES: dict[str, tuple[str, str, list[str]]] = {
    "small": ("smallint", "smallint", ["-32768", "0", "32767"]),
    "wider": ("smallint", "bigint", ["-32768", "1", "NULL"]),
    "whole": ("integer", "int", ["-2147483648", "NULL", "2147483647"]),
    "big": ("bigint", "bigint", ["-9223372036854775808", "NULL", "9223372036854775807"]),
    "as_decimal": ("integer", "decimal(12,2)", ["-2147483648", "NULL", "7"]),
    "flag": ("boolean", "boolean", ["true", "false", "NULL"]),
    "flag_text": ("boolean", "text", ["true", "false", "NULL"]),
    "single": ("real", "double", ["0.1", "'NaN'", "'-Infinity'"]),
    "double": ("double precision", "double", ["0.1", "1e300", "-5e-324"]),
    "exact": ("numeric(12,2)", "decimal(12,2)", ["-9999999999.99", "0.00", "NULL"]),
    "longest": ("numeric(38,9)", "decimal(38,9)", ["12345678901234567890123456789.123456789", "NULL", "-0.000000001"]),
    "open": ("numeric", "decimal(12,2)", ["1.5000", "-300", "0.10"]),
    "open_text": ("numeric", "text", ["1.5000", "'NaN'", "1e40"]),
    "day": ("date", "date", ["'0001-01-01'", "'2024-02-29'", "'9999-12-31'"]),
    "at": ("timestamptz", "timestamptz", ["'0001-01-01 00:00+00'", "'2026-10-25 02:30:00.000001+02'", "'1969-12-31 23:59:59.9+00'"]),
    "wall": ("timestamp", "timestamptz", ["'2026-10-25 02:30'", "'2026-03-29 02:30'", "'2026-07-01 12:00:00.25'"]),
    "token": ("uuid", "uuid", ["'6BA7B810-9DAD-11D1-80B4-00C04FD430C8'", "NULL", "gen_random_uuid()"]),
    "raw": ("bytea", "bytes", [r"'\x'", r"'\x00ff10'", "NULL"]),
    "padded": ("char(5)", "text", ["'ab'", "''", "NULL"]),
    "label": ("text", "text", ["''", "'Grüße, \t\"''\\ 日本 🐘'", "NULL"]),
    "doc": ("jsonb", "text", ["""'{"b": [1, 2.50], "a": null}'""", "'null'", "NULL"]),
    "numbers": ("integer[]", "text", ["'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'{}'"]),
    "words": ("text[]", "text", ["ARRAY['a,b', 'c\"d', NULL]", "'{}'", "NULL"]),
    "address": ("inet", "text", ["'10.0.0.1'", "'10.0.0.0/8'", "NULL"]),
    "span": ("interval", "text", ["'1 year 2 days 03:04:05.6'", "'-1 month'", "NULL"]),
    "clock": ("time", "text", ["'23:59:59.123456'", "'00:00'", "NULL"]),
    "mood": ("mood", "text", ["'calm'", "'wild'", "NULL"]),
    "cents": ("cents", "decimal(12,2)", ["12.34", "NULL", "-0.01"]),
}  # fmt: skip
LOGICAL = {
    "smallint": "integer", "int": "integer", "bigint": "integer", "boolean": "boolean", "double": "number", "date": "date",
    "decimal(12,2)": "number", "decimal(38,9)": "number", "timestamptz": "timestamp",
}  # fmt: skip


@pytest.mark.parametrize("time_zone", ["UTC", "Europe/Berlin"])
def test_each_value_is_the_same_when_it_comes_from_the_log(
    time_zone: str, db: psycopg.Connection, uri: str, schema: str, tmp_path: Path
) -> None:
    name = f"test_{uuid4().hex[:12]}"
    db.execute("DROP TYPE IF EXISTS mood CASCADE; DROP DOMAIN IF EXISTS cents CASCADE")
    db.execute("CREATE TYPE mood AS ENUM ('calm', 'wild'); CREATE DOMAIN cents AS numeric(10,2) CHECK (VALUE < 1000)")
    columns = ", ".join(f'"{column}" {stated}' for column, (stated, _, _) in TYPES.items())
    db.execute(f"CREATE TABLE {name} (id bigint PRIMARY KEY, {columns})")
    db.execute(f"ALTER TABLE {name} REPLICA IDENTITY FULL")
    for row in range(3):
        values = ", ".join(values[row] for _, _, values in TYPES.values())
        db.execute(f"INSERT INTO {name} VALUES ({row}, {values})")
    contract = item_contract(
        tmp_path,
        "".join(
            f'      - {{name: {column}, logicalType: {LOGICAL.get(stated, "string")}, physicalType: "{stated}"}}\n'
            for column, (_, stated, _) in TYPES.items()
        ),
    )
    source = LogChanges(
        uri=uri, table=f"{schema}.{name}", contract=contract, slot=name, publication=name, time_zone=time_zone
    )
    try:
        captured = capture(source, tmp_path)
        db.execute(f"UPDATE {name} SET id = id + 0")
        capture(source, tmp_path, captured)
    finally:
        source.drop_slot()
    table, logged = captured.events[:3], captured.events[3:]
    assert [event["__op"] for event in captured.events] == ["r"] * 3 + ["u"] * 3
    for column in TYPES:
        assert [repr(event[column]) for event in logged] == [repr(event[column]) for event in table], column
