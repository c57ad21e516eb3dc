"""A contract's columns, types and required values against what the table has."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from tallyclerk.contracts.model import Column, Contract, Incremental
from tallyclerk.core.extract import Extract
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SchemaMismatchError, SpecError
from tallyclerk.sources.database_table import DatabaseTable
from tests.integration.postgres.reading import rejects_of, rows_of

pytestmark = pytest.mark.integration


def contract(*columns: Column, incremental: str | None = None) -> Contract:
    return Contract(
        id="people",
        version="1.2.0",
        dataset="people",
        path=Path("people.odcs.yaml"),
        fingerprint="",
        columns=columns,
        incremental=Incremental(incremental) if incremental else None,
    )


@pytest.fixture
def people(db: psycopg.Connection) -> None:
    db.execute("DROP TABLE IF EXISTS people")
    db.execute("CREATE TABLE people (id int, name varchar(20), score numeric, born timestamp, extra text)")
    db.execute(
        "INSERT INTO people VALUES (1, 'Ada', 1.50, '2026-03-01 12:00', 'x'), (NULL, 'Bob', 2, '2026-03-01 13:00', 'x'), "
        "(3, NULL, 2.125, '2026-03-01 14:00', 'x'), (4, 'Dan', 12345678901, NULL, 'x'), (5, 'Eve', NULL, NULL, 'x')"
    )


def test_columns_come_in_the_contracts_order_and_types(people: None, full: Callable[..., Extract]) -> None:
    stated = contract(
        Column("born", "timestamptz"),
        Column("score", "decimal(12,3)"),
        Column("id", "bigint", required=True),
        Column("name", "text", required=True),
        Column("year", "int", derived="year(born)"),
    )
    extract = full("people", contract=stated, time_zone="America/New_York", load_id="load-1")
    assert extract.schema.names == ["born", "score", "id", "name"]
    assert extract.schema.types == [pa.timestamp("us", tz="UTC"), pa.decimal128(12, 3), pa.int64(), pa.string()]
    assert not extract.schema.field("id").nullable
    assert (extract.ledger.read, extract.ledger.written, extract.ledger.rejected) == (5, 2, 3)
    rows = rows_of(extract).to_pylist()
    assert [(row["id"], row["score"]) for row in rows] == [(1, Decimal("1.500")), (5, None)]
    assert rows[0]["born"].isoformat() == "2026-03-01T17:00:00+00:00"
    rejects = {(row["record_number"], row["column"], row["reason"]) for row in rejects_of(extract)}
    assert rejects == {(2, "id", "required"), (3, "name", "required"), (4, "score", "does_not_fit")}
    (first, *_) = rejects_of(extract)
    assert (first["dataset"], first["load_id"], first["contract_version"]) == ("people", "load-1", "1.2.0")


def test_a_record_with_two_faults_is_one_reject_with_two_reasons(
    db: psycopg.Connection, full: Callable[..., Extract]
) -> None:
    db.execute("CREATE TABLE twice (id int, amount numeric)")
    db.execute("INSERT INTO twice VALUES (NULL, 0.12345), (1, 'NaN'), (2, NULL)")
    stated = contract(Column("id", "int", required=True), Column("amount", "decimal(5,2)", required=True))
    extract = full("twice", contract=stated, special_values="reject")
    assert (extract.ledger.rejected, extract.ledger.written) == (3, 0)
    assert sorted((row["record_number"], row["column"], row["reason"]) for row in rejects_of(extract)) == [
        (1, "amount", "does_not_fit"),
        (1, "id", "required"),
        (2, "amount", "special_value"),
        (3, "amount", "required"),
    ]


def test_a_lossy_type_is_refused_before_reading(people: None, full: Callable[..., Extract]) -> None:
    stated = contract(Column("id", "smallint"), Column("name", "int"), Column("score", "double"))
    with pytest.raises(SchemaMismatchError) as raised:
        full("people", contract=stated)
    for words in ("id is integer", "name is character varying(20)", "score is numeric, which double"):
        assert words in str(raised.value)


def test_a_missing_column_is_named_with_near_ones(people: None, full: Callable[..., Extract]) -> None:
    with pytest.raises(SpecError, match=r"no column nmae.*Did you mean name"):
        full("people", contract=contract(Column("nmae", "text")))


def test_the_contracts_incremental_column_decides_the_window(
    people: None, uri: str, schema: str, tmp_path: Path
) -> None:
    stated = contract(Column("id", "int"), Column("born", "timestamptz"), incremental="born")
    source = DatabaseTable(uri=uri, table=f"{schema}.people", contract=stated, rows_without_position="ignore")
    extract = source.extract(Window.of_day("2026-03-01"), tmp_path)
    assert extract.ledger.written == 3
    assert source.fingerprint(Window.of_day("2026-03-01")) == ""
