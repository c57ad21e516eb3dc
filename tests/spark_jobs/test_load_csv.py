"""Damaged CSV files on Spark: an exact ledger and every bad record named, or a refusal. Expected values are written by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from spark_jobs import csv_quarantine
from spark_jobs.csv_spec import CsvSpec, read_spec
from spark_jobs.failures import JobError, LedgerError, SpecificationError, is_unknown_sql, is_unreadable_input
from spark_jobs.load_csv import SESSION, account, deduplicated, parse, target_schema
from spark_jobs.receipts import Ledger

HEADER = "id,amount,sold_on,note\n"
GOOD = ("1,1.50,2026-03-01,a\n", "2,2.50,2026-03-01,b\n", "3,3.50,2026-03-01,c\n")
COLUMNS = [
    {"name": "id", "type": "bigint"},
    {"name": "amount", "type": "decimal(12,2)"},
    {"name": "sold_on", "type": "date"},
    {"name": "note", "type": "text"},
    {"name": "month", "type": "int", "derived": 'CAST(month("sold_on") AS INT)'},
]
RULES = [
    {
        "id": "id.required",
        "column": "id",
        "check": "required",
        "violation": '"id" IS NULL',
        "message": "must not be empty",
    },
    {
        "id": "amount.required",
        "column": "amount",
        "check": "required",
        "violation": '"amount" IS NULL',
        "message": "must not be empty",
    },
    {
        "id": "amount.minimum",
        "column": "amount",
        "check": "minimum",
        "violation": '"amount" < 0',
        "message": "must be at least 0",
    },
]
Load = Callable[..., "Result"]


class Result:
    """The outcome of one load, in plain values."""

    def __init__(self, ledger: Ledger, rows: DataFrame, rejects: DataFrame) -> None:
        self.ledger = ledger
        self.rows = sorted((row.id, row.amount, str(row.sold_on), row.note) for row in rows.collect())
        found = rejects.collect()
        self.rejects = sorted((row.record_number, row.column, row.reason, row.raw_text) for row in found)
        self.lines = {row.record_number: row.line_number for row in found}


@pytest.fixture
def load(spark: SparkSession, tmp_path: Path) -> Load:
    for key, value in SESSION.items():
        spark.conf.set(key, value)
    names = iter(range(100))

    def run(
        *contents: str | bytes, suffix: str = ".csv", facts: dict[str, Any] | None = None, **options: Any
    ) -> Result:
        files = []
        for content in contents:
            path = tmp_path / f"sales {next(names)} [1]{suffix}"
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            files.append({"uri": path.as_uri(), **(facts or {})})
        spec = spec_of(files=files, **{"mode": "DROPMALFORMED"} | options)
        loaded = parse(spark, spec)
        ledger, _ = account(loaded, spec)
        return Result(ledger, deduplicated(loaded.rows, spec), csv_quarantine.transform(loaded.rows, spec))

    return run


def spec_of(**options: Any) -> CsvSpec:
    base = {
        "dataset": "sales",
        "window": "2026-03-01",
        "target": "t",
        "quarantine": "q",
        "columns": COLUMNS,
        "rules": RULES,
    }
    return read_spec(json.dumps(base | options))


STRUCTURE = [  # record, column, reason
    ("2,2.50,2026-03-01", "note", "columns"),
    ("2", "amount", "columns"),
    ("2,2.50,2026-03-01,b,c", "", "columns"),
    ("2,2.50,2026-03-01,b,c,d,e,f", "", "columns"),
    ('2,2.50,2026-03-01,"b"c', "note", "quote"),
    ('"2"2,2.50,2026-03-01,b', "id", "quote"),
]
TYPES = [
    ("abc,2.50,2026-03-01,b", "id"),
    ("1.6,2.50,2026-03-01,b", "id"),
    ("1e3,2.50,2026-03-01,b", "id"),
    (" 2,2.50,2026-03-01,b", "id"),
    ("0x10,2.50,2026-03-01,b", "id"),
    ("1_000,2.50,2026-03-01,b", "id"),
    ("9223372036854775808,2.50,2026-03-01,b", "id"),
    ("+2,2.50,2026-03-01,b", "id"),
    ("2,1e3,2026-03-01,b", "amount"),
    ("2, 7 ,2026-03-01,b", "amount"),
    ("2,1.005,2026-03-01,b", "amount"),
    ("2,12345678901.00,2026-03-01,b", "amount"),
    ("2,NaN,2026-03-01,b", "amount"),
    ("2,.,2026-03-01,b", "amount"),
    ("2,2.50,2026-02-30,b", "sold_on"),
    ("2,2.50,01.03.2026,b", "sold_on"),
    ("2,2.50,2026-3-1,b", "sold_on"),
    ("2,2.50,2026-03-01 00:00:00,b", "sold_on"),
    ("2,2.50,infinity,b", "sold_on"),
    ("2,2.50,10000-01-01,b", "sold_on"),
    ('2,2.50,"2026-03-01\n",b', "sold_on"),
]


def test_every_kind_of_damage_is_named_when_good_records_stand_between(load: Load) -> None:
    bad = [(text, column, reason) for text, column, reason in STRUCTURE]
    bad += [(text, column, "type") for text, column in TYPES]
    bad += [("2,-0.01,2026-03-01,b", "amount", "rule:amount.minimum"), ("2,,2026-03-01,b", "amount", "required")]
    result = load(HEADER + "".join(f"{GOOD[0]}{text}\n" for text, _, _ in bad))

    assert result.ledger == Ledger(read=2 * len(bad), written=len(bad), rejected=len(bad))
    assert result.rejects == sorted((2 * n + 2, column, reason, text) for n, (text, column, reason) in enumerate(bad))
    assert set(result.rows) == {(1, Decimal("1.50"), "2026-03-01", "a")}


def test_invalid_utf8_is_quarantined_when_in_one_record(load: Load) -> None:
    result = load((HEADER + GOOD[0]).encode() + b"2,2.50,2026-03-01,\xff\xfe\n" + GOOD[2].encode())

    assert result.ledger == Ledger(read=3, written=2, rejected=1)
    assert [reject[:3] for reject in result.rejects] == [(2, "note", "encoding")]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_numbers_count_records_when_blank_lines_and_values_with_newlines_stand_between(
    load: Load, newline: str
) -> None:
    text = (
        HEADER
        + '1,1.00,2026-03-01,"two\n\nlines, ""quoted"""\n\n'  # lines 2 to 5
        + "2,1.00\n"  # 6, columns
        + "x,1.00,2026-03-01,a\n\n\n"  # 7, type
        + '4,1.00,2026-03-01,"a\nb",extra\n'  # 10 and 11, columns
        + '5,1.00,2026-03-01, "padded" \n'
        + 'x,1.00,2026-03-01,5" pipe\n\n'  # 13, type
    ).replace("\n", newline)
    result = load(text)

    assert result.ledger == Ledger(read=6, written=2, rejected=4)
    assert result.rejects == [
        (2, "sold_on", "columns", "2,1.00"),
        (3, "id", "type", "x,1.00,2026-03-01,a"),
        (4, "", "columns", f'4,1.00,2026-03-01,"a{newline}b",extra'),
        (6, "id", "type", 'x,1.00,2026-03-01,5" pipe'),
    ]
    assert result.lines == {2: 6, 3: 7, 4: 10, 6: 13}
    assert [row[3] for row in result.rows] == [f'two{newline}{newline}lines, "quoted"', "padded"]


def test_plain_forms_are_accepted_when_written_otherwise_than_the_cast(load: Load) -> None:
    result = load(
        HEADER + '007,5,2026-03-01,a\n-1,0.5,2026-03-01,\n3,0,2026-03-01,""\n', HEADER + '4,0.00,2026-03-01,"a"'
    )

    assert result.ledger == Ledger(read=4, written=4)
    assert result.rows == [
        (-1, Decimal("0.50"), "2026-03-01", None),
        (3, Decimal("0.00"), "2026-03-01", None),
        (4, Decimal("0.00"), "2026-03-01", "a"),
        (7, Decimal("5.00"), "2026-03-01", "a"),
    ]


@pytest.mark.parametrize("behind", [1, 2000])
def test_file_is_refused_when_a_quote_is_not_closed(load: Load, behind: int) -> None:
    rows = "".join(f"{n},1.00,2026-03-01,a\n" for n in range(3, 3 + behind))

    with pytest.raises(JobError, match="quote in line 3 is not closed"):
        load(HEADER + GOOD[0] + '2,2.50,2026-03-01,"b\n' + rows)


def test_last_record_is_quarantined_when_only_its_quote_is_not_closed(load: Load) -> None:
    result = load(HEADER + GOOD[0] + '2,2.50,2026-03-01,"b\n')

    assert result.ledger == Ledger(read=2, written=1, rejected=1)
    assert [reject[:3] for reject in result.rejects] == [(2, "note", "quote")]


def test_lines_are_numbered_right_when_a_file_is_split_between_tasks(load: Load, spark: SparkSession) -> None:
    bad = {17, 500, 501, 999}
    rows = "".join(f"{'x' if n in bad else n},1.00,2026-03-01,{'note ' * 5}\n" for n in range(1, 1001))
    small = HEADER + "x,1.00,2026-03-01,a\n"
    spark.conf.set("spark.sql.files.maxPartitionBytes", "4096")
    try:
        result = load(HEADER + rows, small, suffix=".csv")
        quoted = load(HEADER + rows.replace("note \n", "note \n\n"), suffix=".csv")
    finally:
        spark.conf.unset("spark.sql.files.maxPartitionBytes")

    for each, expected in ((result, sorted([*bad, 1])), (quoted, sorted(bad))):
        assert [number for number, *_ in each.rejects] == expected
    assert result.ledger == Ledger(read=1001, written=996, rejected=5)
    assert quoted.ledger == Ledger(read=1000, written=996, rejected=4)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param((HEADER + "".join(GOOD)).rstrip("\n"), id="no newline at the end"),
        pytest.param((HEADER + "".join(GOOD)).replace("\n", "\r\n"), id="CRLF"),
        pytest.param("\ufeff" + HEADER + "".join(GOOD), id="BOM"),
        pytest.param(HEADER + "\n" + "\n".join(GOOD) + "\n", id="blank lines"),
        pytest.param(gzip.compress((HEADER + "".join(GOOD)).encode()), id="gzip"),
    ],
)
def test_three_records_are_read_when_the_lines_are_delivered(load: Load, content: str | bytes) -> None:
    result = load(content, suffix=".csv.gz" if isinstance(content, bytes) else ".csv")

    assert result.ledger == Ledger(read=3, written=3)
    assert [row[0] for row in result.rows] == [1, 2, 3]


def test_window_is_empty_when_the_file_has_only_a_header(load: Load) -> None:
    result = load(HEADER)

    assert (result.ledger, result.rows, result.rejects) == (Ledger(), [], [])


@pytest.mark.parametrize(
    "header",
    [
        "amount,id,sold_on,note\n",
        "",
        "id,amount,sold_on\n",
        "id,amount,sold_on,note,extra\n",
        "ID,amount,sold_on,note\n",
    ],
)
def test_file_is_refused_when_the_header_is_not_the_contracts(load: Load, header: str) -> None:
    with pytest.raises(JobError, match="header is not the contract's"):
        load(header + "".join(GOOD))


def test_file_is_refused_when_it_has_no_byte_or_lacks_lines_or_its_end(load: Load) -> None:
    with pytest.raises(JobError, match="header is not the contract's"):
        load("")
    with pytest.raises(JobError, match="4 lines were read where 5 were delivered"):
        load(HEADER + "".join(GOOD), facts={"lines": 5})
    packed = gzip.compress((HEADER + "".join(f"{n},1.00,2026-03-01,{n * 7919}\n" for n in range(20_000))).encode())
    with pytest.raises((PySparkException, Py4JJavaError)) as cut_off:
        load(packed[: len(packed) // 2], suffix=".csv.gz")
    assert is_unreadable_input(cut_off.value)


def test_filtered_and_repeated_rows_are_left_out_when_asked_for(load: Load) -> None:
    text = HEADER + "1,0.00,2026-03-01,zero\n2,1.00,2026-03-01,old\n" + GOOD[2]
    result = load(text, HEADER + "2,2.00,2026-03-01,new\n", filters=['"amount" > 0'], deduplicate_by=["id"])

    assert result.ledger == Ledger(read=4, written=3, filtered=1)  # before deduplication
    assert [(row[0], row[3]) for row in result.rows] == [(2, "new"), (3, "c")]


def test_load_fails_by_mode_and_ratio_when_records_are_bad(load: Load) -> None:
    text = HEADER + "".join(GOOD) + "x,1.00,2026-03-01,a\n"
    with pytest.raises(JobError, match="mode FAILFAST allows none"):
        load(text, mode="FAILFAST")
    with pytest.raises(
        JobError, match=r"1 of 4 records .* max_rejected_ratio allows 10.00%(.|\n)*:5: id type: 'x' is not a bigint"
    ):
        load(text, mode="PERMISSIVE")
    assert load(text, mode="PERMISSIVE", max_rejected_ratio=0.25).ledger.rejected == 1
    rules = [{**rule, "on_violation": "fail"} for rule in RULES]
    with pytest.raises(JobError, match="a broken rule fails the load"):
        load(HEADER + "1,-1.00,2026-03-01,a\n", rules=rules)


def test_dialect_is_followed_when_it_is_another(load: Load) -> None:
    dialect = {"delimiter": ";", "quote": "'", "escape": "\\", "null_text": "NULL", "encoding": "cp1252"}
    text = HEADER.replace(",", ";") + "1;1.00;2026-03-01;'it\\'s; \u20ac'\n2;1.00;2026-03-01;NULL\n3;1.00;2026-03-01;\n"
    result = load(text.encode("cp1252"), dialect=dialect)

    assert [row[3] for row in result.rows] == ["it's; \u20ac", None, ""]


def test_value_is_exact_when_it_is_written_otherwise_than_usual(load: Load) -> None:
    result = load(HEADER + "1,.5,2026-03-01,a\n2,1.5000,2026-03-01,a\n3,2.,2026-03-01,a\n4,.,2026-03-01,a\n")
    assert [row[:2] for row in result.rows] == [(1, Decimal("0.50")), (2, Decimal("1.50")), (3, Decimal("2.00"))]
    assert result.ledger.rejected == 1


def test_types_and_formats_are_read_when_declared(spark: SparkSession, tmp_path: Path) -> None:
    columns = [
        {"name": "at", "type": "timestamp"},
        {"name": "on", "type": "date", "text_format": "%d.%m.%Y"},
        {"name": "moment", "type": "timestamptz"},
        {"name": "flag", "type": "boolean"},
        {"name": "key", "type": "uuid"},
        {"name": "small", "type": "smallint"},
    ]
    key = "2cee4560-d579-51fb-ae07-9a4ccb02d874"
    good = f"2026-03-01 23:59:59,28.02.2026,2026-03-01T01:00:00+02:00,t,{key},-5"
    bad = f"2026-03-01T23:59:59,30.02.2026,2026-03-01 01:00:00,yes,{key[:-1]},40000"
    path = tmp_path / "types.csv"
    path.write_text(f"at,on,moment,flag,key,small\n{good}\n{bad}\n")
    spec = spec_of(files=[{"uri": path.as_uri()}], columns=columns, rules=[], mode="DROPMALFORMED")

    rows = parse(spark, spec).rows.orderBy("record_number")
    one, two = rows.collect()

    midnight = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    assert (one["at"].astimezone(UTC), one["on"], one["flag"], one["key"], one["small"]) == (
        midnight,
        date(2026, 2, 28),
        True,
        key,
        -5,
    )
    assert one["moment"].astimezone(UTC) == datetime(2026, 2, 28, 23, tzinfo=UTC)
    assert [problem["column"] for problem in two["problems"]] == [column["name"] for column in columns]
    assert [field.dataType for field in target_schema(spec)] == [
        rows.schema[column["name"]].dataType for column in columns
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"modus": "PERMISSIVE"}, "unknown modus"),
        ({"mode": "LENIENT"}, "is not one of"),
        ({"files": []}, "no file"),
        ({"columns": [{"name": "id"}]}, r"columns\[0\]: type missing"),
        ({"deduplicate_by": ["key"]}, "which is no column"),
        ({"window": "2026-03"}, "not one UTC day"),
        ({"dialect": {"delimiter": "||"}}, "one character"),
    ],
)
def test_specification_is_refused_when_it_cannot_be_carried_out(options: dict[str, Any], told: str) -> None:
    with pytest.raises(SpecificationError, match=told):
        spec_of(**{"files": [{"uri": "file:///x.csv"}]} | options)


@pytest.mark.parametrize(
    "condition", ["regexp_full_match(note, 'a')", "note = $$a$$ !!", "no_such_column > 0", "amount > sold_on"]
)
def test_sql_that_only_duckdb_understands_is_told_from_bad_data(load: Load, condition: str) -> None:
    with pytest.raises(PySparkException) as refused:
        load(HEADER + GOOD[0], filters=[condition])
    assert is_unknown_sql(refused.value)


def test_ledger_error_is_a_job_error_so_that_nothing_is_retried() -> None:
    assert issubclass(LedgerError, JobError)
