"""Every type with its extremes, against PostgreSQL's own text of the same values."""

import datetime
import json
import random
from collections.abc import Callable
from decimal import Decimal

import psycopg
import pyarrow as pa
import pytest

from tallyclerk.core.extract import Extract
from tallyclerk.exceptions import RecordError
from tests.integration.postgres.reading import rejects_of, rows_of

pytestmark = pytest.mark.integration

Full = Callable[..., Extract]
NAIVE, INSTANT = pa.timestamp("us"), pa.timestamp("us", tz="UTC")


def shown(value: object) -> str | None:
    """A value read back from Parquet as PostgreSQL prints it in UTC."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, datetime.datetime):
        text = value.isoformat(" ", timespec="microseconds").replace("+00:00", "")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return text + ("+00" if value.tzinfo else "")
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


EXACT = [
    ("smallint", pa.int16(), ["-32768", "0", "32767"]),
    ("integer", pa.int32(), ["-2147483648", "2147483647"]),
    ("bigint", pa.int64(), ["-9223372036854775808", "9223372036854775807"]),
    ("boolean", pa.bool_(), ["true", "false"]),
    (
        "text",
        pa.string(),
        ["", " ", "Käse €  \U0001f9c0", 'a\nb\r\n"c",\\N\\t', "\\000", "\\x00", "NULL", "x" * 100_000],
    ),
    ("varchar(7)", pa.string(), ["", "seven77", "Ünïcödé"]),
    ("name", pa.string(), ["pg_class"]),
    ("numeric(12,2)", pa.decimal128(12, 2), ["9999999999.99", "-9999999999.99", "0.01", "-0.01", "0.00", "0", "1.005"]),
    ("numeric(38,0)", pa.decimal128(38, 0), ["9" * 38, "-" + "9" * 38, "0", "1" + "0" * 37]),
    ("numeric(38,38)", pa.decimal128(38, 38), ["0." + "9" * 38, "-0." + "0" * 37 + "1"]),
    ("numeric(38,10)", pa.decimal128(38, 10), ["9" * 28 + "." + "9" * 10, "10000.0001", "0.0000000001"]),
    ("numeric(3,-2)", pa.decimal128(5, 0), ["99900", "-99900", "149"]),
    ("numeric(3,5)", pa.decimal128(5, 5), ["0.00999", "-0.00001"]),
    ("numeric(39,1)", pa.string(), ["9" * 38 + ".9", "NaN"]),
    ("numeric", pa.string(), ["1e-50", "1" + "0" * 300 + ".10", "NaN", "Infinity", "-Infinity", "0.000"]),
    ("date", pa.date32(), ["0001-01-01", "1582-10-10", "1970-01-01", "9999-12-31"]),
    ("timestamp", NAIVE, ["0001-01-01 00:00:00", "1969-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999"]),
    ("timestamptz", INSTANT, ["0001-01-01 00:00:00+00", "2026-03-29 01:30:00+01", "9999-12-31 23:59:59.999999+00"]),
    ("uuid", pa.string(), ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-4fff-bfff-0123456789ab"]),
    ("json", pa.string(), ['{"b" : 1,  "a": [null], "a": 1e400}', "null", '"\\u00e9"']),
    ("jsonb", pa.string(), ['{"b": 1, "a": [null, 1.50]}', "null", json.dumps({"k": "v" * 500_000})]),
    ("bytea", pa.binary(), ["\\x", "\\x00ff00", "\\x" + "5c" * 10]),
    ("time", pa.string(), ["00:00:00", "24:00:00", "12:34:56.000001"]),
    ("timetz", pa.string(), ["12:00:00+14:30"]),
    ("inet", pa.string(), ["10.0.0.0/8", "::1"]),
    ("macaddr", pa.string(), ["08:00:2b:01:02:03"]),
    ("bit varying(9)", pa.string(), ["101", ""]),
    ("tstzrange", pa.string(), ["[2026-01-01 00:00:00+02,infinity)", "empty"]),
    ("oid", pa.string(), ["4294967295"]),
    ('"char"', pa.string(), ["x"]),
    ("xml", pa.string(), ["<a>ü</a>"]),
    ("money", pa.string(), ["12.34"]),
    ("mood", pa.string(), ["fine", "bad; drop"]),
    ("cents", pa.decimal128(9, 2), ["1234567.89"]),
    ("pair", pa.string(), ['(1,"a,b")']),
]


@pytest.fixture(scope="module", autouse=True)
def own_types(uri: str, schema: str) -> None:
    with psycopg.connect(uri, autocommit=True, options=f"-c search_path={schema}") as connection:
        connection.execute("CREATE TYPE mood AS ENUM ('fine', 'bad; drop')")
        connection.execute("CREATE DOMAIN cents AS numeric(9,2) CHECK (value > 0)")
        connection.execute("CREATE TYPE pair AS (number int, label text)")


@pytest.mark.parametrize(("sql_type", "arrow", "values"), EXACT, ids=[case[0] for case in EXACT])
def test_values_are_exact_when_type_is(
    sql_type: str, arrow: pa.DataType, values: list[str], db: psycopg.Connection, full: Full
) -> None:
    db.execute("DROP TABLE IF EXISTS typed")
    db.execute(f"CREATE TABLE typed (id int, value {sql_type})")
    for number, value in enumerate([*values, None]):
        db.execute(f"INSERT INTO typed VALUES (%s, %s::text::{sql_type})", [number, value])
    db.execute("SET timezone = 'UTC'")
    expected = dict(db.execute("SELECT id, value::text FROM typed").fetchall())
    extract = full("typed")
    table = rows_of(extract)
    assert table.schema.field("value").type == arrow
    assert extract.ledger.read == extract.ledger.written == len(values) + 1
    for row in table.to_pylist():
        wanted = expected[row["id"]]
        if sql_type == "xml" or not isinstance(row["value"], Decimal):
            assert shown(row["value"]) == wanted
        else:  # a scale of its own: 149 in numeric(3,-2) is 100
            assert row["value"] == Decimal(wanted)


def test_floats_come_bit_for_bit_when_they_are_extreme(db: psycopg.Connection, full: Full) -> None:
    db.execute("CREATE TABLE floats (id int, f4 real, f8 double precision)")
    singles = ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1"]
    doubles = ["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1"]
    for number, pair in enumerate(zip(singles, doubles, strict=True)):
        db.execute("INSERT INTO floats VALUES (%s, %s, %s)", [number, *pair])
    table = rows_of(full("floats"))
    assert table.schema.types[1:] == [pa.float32(), pa.float64()]
    sent = db.execute(
        "SELECT encode(float4send(f4), 'hex'), encode(float8send(f8), 'hex') FROM floats ORDER BY id"
    ).fetchall()
    found = [
        (four.tobytes()[::-1].hex(), eight.tobytes()[::-1].hex())
        for four, eight in zip(table["f4"].to_numpy(), table["f8"].to_numpy(), strict=True)
    ]
    assert found == sent


def test_padding_of_char_is_kept(db: psycopg.Connection, full: Full) -> None:
    db.execute("CREATE TABLE padded (value char(5))")
    db.execute("INSERT INTO padded VALUES ('ab')")
    assert rows_of(full("padded"))["value"].to_pylist() == ["ab   "]


def test_arrays_come_as_json_when_nested_or_null(db: psycopg.Connection, full: Full) -> None:
    db.execute("CREATE TABLE arrays (i int[], t text[], n numeric(5,2)[], z timestamptz[], m mood[])")
    db.execute(
        "INSERT INTO arrays VALUES ('{{1,NULL},{3,4}}', ARRAY['a\"b', 'ü', NULL], '{1.50,NaN}', '{2026-01-01 00:00+02}', '{fine}')"
    )
    (row,) = rows_of(full("arrays")).to_pylist()
    assert json.loads(row["i"]) == [[1, None], [3, 4]]
    assert json.loads(row["t"]) == ['a"b', "ü", None]
    assert row["n"] == '[1.50,"NaN"]'
    assert json.loads(row["z"]) == ["2025-12-31T22:00:00+00:00"]
    assert json.loads(row["m"]) == ["fine"]


def test_intervals_come_as_iso_text(full: Full) -> None:
    extract = full(query="SELECT interval '1 year 2 mons -3 days 04:05:06.789' AS value -- the end")
    assert rows_of(extract)["value"].to_pylist() == ["P1Y2M-3DT4H5M6.789S"]


def test_decimals_are_exact_when_random(db: psycopg.Connection, full: Full) -> None:
    db.execute("CREATE TABLE amounts (id int, a numeric(12,2), b numeric(38,19), c numeric(18,18))")
    chance = random.Random(7)
    rows = [
        (
            number,
            Decimal(chance.randint(-(10**12) + 1, 10**12 - 1)).scaleb(-2),
            Decimal(chance.choice([-1, 1]) * chance.getrandbits(chance.randint(1, 126))).scaleb(-19),
            Decimal(chance.randint(0, 10 ** chance.randint(1, 18) - 1)).scaleb(-18),
        )
        for number in range(20_000)
    ]
    with db.cursor() as cursor, cursor.copy("COPY amounts FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    table = rows_of(full("amounts")).sort_by("id")
    assert list(zip(*(table[name].to_pylist() for name in ("id", "a", "b", "c")), strict=True)) == rows


SPECIAL = [
    ("numeric(6,2)", "NaN"),
    ("date", "infinity"),
    ("date", "-infinity"),
    ("date", "0044-03-15 BC"),
    ("date", "5874897-12-31"),
    ("date", "10000-01-01"),
    ("timestamp", "infinity"),
    ("timestamp", "0001-12-31 23:59:59.999999 BC"),
    ("timestamptz", "-infinity"),
    ("timestamptz", "infinity"),
    ("timestamptz", "4714-11-24 00:00:00+00 BC"),
    ("timestamptz", "294276-12-31 23:59:59.999999+00"),
    ("timestamptz", "10000-01-01 00:00:00+00"),
]


@pytest.mark.parametrize(("sql_type", "value"), SPECIAL, ids=[" ".join(case) for case in SPECIAL])
def test_special_value_follows_its_policy(sql_type: str, value: str, db: psycopg.Connection, full: Full) -> None:
    db.execute("DROP TABLE IF EXISTS special")
    db.execute(f"CREATE TABLE special (id int, value {sql_type}, other uuid)")
    good = "1.25" if sql_type.startswith("numeric") else "2026-01-01"
    for number, text in enumerate([good, value, None, good, value]):
        db.execute(
            f"INSERT INTO special VALUES (%s, %s::{sql_type}, '00000000-0000-0000-0000-000000000001')", [number, text]
        )
    with pytest.raises(RecordError, match=r"value: 2 \(special_value\)"):
        full("special")
    nulled = full("special", special_values="null")
    assert nulled.ledger.written == 5
    assert nulled.sources[0]["nulled"] == {"value": 2}
    assert [row is None for row in rows_of(nulled)["value"].to_pylist()] == [False, True, True, False, True]
    extract = full("special", special_values="reject")
    assert (extract.ledger.read, extract.ledger.written, extract.ledger.rejected) == (5, 3, 2)
    assert rows_of(extract)["id"].to_pylist() == [0, 2, 3]
    rejects = rejects_of(extract)
    assert [(row["record_number"], row["column"], row["reason"]) for row in rejects] == [
        (2, "value", "special_value"),
        (5, "value", "special_value"),
    ]
    db.execute("SET timezone = 'UTC'")
    (text,) = db.execute("SELECT value::text FROM special WHERE id = 1").fetchone() or ("",)
    assert json.loads(str(rejects[0]["raw_text"])) == {
        "id": "1",
        "value": text,
        "other": "00000000-0000-0000-0000-000000000001",
    }


def test_wide_jsonb_and_many_rows_are_exact(db: psycopg.Connection, full: Full) -> None:
    db.execute(
        "CREATE TABLE wide AS SELECT i AS id, jsonb_build_object('k', repeat(md5(i::text), 3000)) AS body FROM generate_series(1, 300) i"
    )
    table = rows_of(full("wide", max_memory_bytes=48 << 20))
    expected = dict(db.execute("SELECT id, body::text FROM wide").fetchall())
    assert dict(zip(table["id"].to_pylist(), table["body"].to_pylist(), strict=True)) == expected
