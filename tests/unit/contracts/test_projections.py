"""The projections, each before the engine it is for."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.contracts.physical_types import TYPES
from tallyclerk.contracts.projections import (
    arrow_schema,
    cql_indexes,
    cql_table,
    cql_types,
    duckdb_output,
    duckdb_types,
    spark_ddl,
)
from tallyclerk.exceptions import SpecError
from tests.unit.contracts.conftest import Load

VALUES: dict[str, Any] = {
    "text": "Grüße",
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "boolean": True,
    "smallint": -(2**15),
    "int": 2**31 - 1,
    "bigint": -(2**63),
    "decimal": Decimal("12345678901234567890123456789012345.678"),
    "double": 0.1,
    "date": date(1969, 12, 31),
    "timestamp": datetime(2026, 3, 29, 2, 30, 0, 1, tzinfo=UTC),
    "timestamptz": datetime(2026, 10, 25, 2, 30, tzinfo=UTC),
    "bytes": b"\x00\xff",
}


@pytest.fixture
def every_type(tmp_path: Path) -> Contract:
    """A contract with a required and an optional column of every type."""
    columns = []
    for name, physical in TYPES.items():
        stated = "decimal(38,3)" if name == "decimal" else name
        for optional in (False, True):
            columns.append(
                f"{{name: {name}_{'optional' if optional else 'column'}, logicalType: {physical.logical[0]}, "
                f'physicalType: "{stated}", required: {str(not optional).lower()}}}'
            )
    lines = "".join(f"      - {column}\n" for column in columns)
    path = tmp_path / "every_type.odcs.yaml"
    path.write_text(
        "apiVersion: v3.1.0\nkind: DataContract\nid: every_type\nversion: 1.0.0\nstatus: active\n"
        f"schema:\n  - name: every_type\n    properties:\n{lines}",
        encoding="utf-8",
    )
    return load_contract(path)


@pytest.fixture
def rows(every_type: Contract) -> pa.Table:
    values = {
        column.name: [VALUES[column.kind], None if not column.required else VALUES[column.kind]]
        for column in every_type.columns
    }
    return pa.table(values, schema=arrow_schema(every_type))


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "_delta_log" / f"{0:020}.json").read_text().splitlines()]


def test_delta_keeps_every_type_exactly(every_type: Contract, rows: pa.Table, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), rows)
    read = pa.table(DeltaTable(str(tmp_path / "t")).to_pyarrow_table())
    assert read.cast(arrow_schema(every_type)).to_pylist() == rows.to_pylist()


def test_a_delta_table_needs_no_feature_that_older_readers_lack(rows: pa.Table, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), rows)
    (protocol,) = [line["protocol"] for line in log_of(tmp_path / "t") if "protocol" in line]
    assert protocol["minReaderVersion"] == 1
    assert protocol["minWriterVersion"] <= 2
    assert not protocol.get("readerFeatures")


def test_delta_refuses_an_empty_value_in_a_required_column(
    every_type: Contract, rows: pa.Table, tmp_path: Path
) -> None:
    write_deltalake(str(tmp_path / "t"), rows)
    nullable = pa.schema([field.with_nullable(True) for field in rows.schema])
    bad = pa.table([pa.nulls(1, field.type) for field in nullable], schema=nullable)
    with pytest.raises(DeltaError, match="failed validation check"):
        write_deltalake(str(tmp_path / "t"), bad, mode="append")


def test_delta_takes_rows_whose_schema_does_not_say_that_they_are_never_empty(rows: pa.Table, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), rows)
    nullable = pa.schema([field.with_nullable(True) for field in rows.schema])
    write_deltalake(str(tmp_path / "t"), rows.cast(nullable), mode="append")
    assert DeltaTable(str(tmp_path / "t")).to_pyarrow_table().num_rows == 2 * rows.num_rows


def test_sparks_schema_is_the_one_delta_writes(every_type: Contract, rows: pa.Table, tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), rows)
    (metadata,) = [line["metaData"] for line in log_of(tmp_path / "t") if "metaData" in line]
    names = {"long": "BIGINT", "integer": "INT", "short": "SMALLINT"}
    fields = json.loads(metadata["schemaString"])["fields"]
    written = ", ".join(
        f"`{f['name']}` {names.get(f['type'], f['type'].upper())}{'' if f['nullable'] else ' NOT NULL'}" for f in fields
    )
    assert spark_ddl(every_type) == written


def test_duckdb_takes_its_types_and_gives_the_stored_ones(every_type: Contract, rows: pa.Table) -> None:
    types = duckdb_types(every_type)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'")  # must change nothing
        connection.execute(f"CREATE TABLE t ({', '.join(f'{name} {type_}' for name, type_ in types.items())})")
        texts = {
            kind: value.isoformat(sep=" ") if isinstance(value, datetime) else value for kind, value in VALUES.items()
        }
        texts["timestamp"] = texts["timestamp"].removesuffix("+00:00")
        values = [texts[column.kind] for column in every_type.columns]
        connection.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(values))})", values)
        output = ", ".join(f"{expression} AS {name}" for name, expression in duckdb_output(every_type).items())
        stored = connection.execute(f"SELECT {output} FROM t").to_arrow_table().cast(arrow_schema(every_type))
    assert stored.to_pylist() == rows.slice(0, 1).to_pylist()


def test_the_sources_schema_lacks_the_derived_columns(load: Load) -> None:
    contract = load()
    assert "sold_on" in arrow_schema(contract).names
    assert arrow_schema(contract, derived=False).names == [column.name for column in contract.source_columns]
    assert "sold_on" not in spark_ddl(contract, derived=False)


def test_cql_types_follow_the_contract_or_what_is_stated(load: Load) -> None:
    assert cql_types(load()) == {"customer": "text", "sold_on": "date", "id": "uuid", "amount": "decimal"}


def test_the_table_is_the_seeds() -> None:
    assert cql_table(load_contract("include/contracts/customer_kpis.odcs.yaml")) == (
        'CREATE TABLE IF NOT EXISTS "pipeline"."customer_kpis" (\n'
        '  "customer_id" text,\n'
        '  "date" date,\n'
        '  "total_amount" decimal,\n'
        '  "transaction_count" int,\n'
        '  "avg_transaction_value" decimal,\n'
        '  PRIMARY KEY ("customer_id", "date")\n'
        ') WITH CLUSTERING ORDER BY ("date" DESC)'
    )
    assert cql_types(load_contract("include/contracts/transactions.odcs.yaml")) == {
        "transaction_id": "uuid",
        "customer_id": "text",
        "product_id": "text",
        "transaction_date": "timestamp",
        "amount": "decimal",
        "quantity": "int",
    }


def test_an_index_is_made_for_each_column_that_is_asked_by(load: Load) -> None:
    contract = load(
        ("          types: {customer: text}\n", "          types: {customer: text}\n          indexes: [sold_on, id]\n")
    )
    assert cql_indexes(contract, keyspace="other") == [
        'CREATE INDEX IF NOT EXISTS "sales_by_customer_sold_on_idx" ON "other"."sales_by_customer" ("sold_on") USING \'sai\'',
        'CREATE INDEX IF NOT EXISTS "sales_by_customer_id_idx" ON "other"."sales_by_customer" ("id") USING \'sai\'',
    ]
    assert cql_indexes(load()) == []


def test_a_contract_without_a_mapping_has_no_table() -> None:
    with pytest.raises(SpecError, match="has no customProperty 'cassandra'; add it"):
        cql_table(load_contract("include/contracts/customers.odcs.yaml"))
