"""The Avro record of a contract, before fastavro's parser."""

from __future__ import annotations

from pathlib import Path

import fastavro
import pyarrow as pa
import pytest

from stack.settings import ROOT
from tallyclerk.contracts import load_contract
from tallyclerk.contracts.avro_projection import avro_schema, avro_schema_of
from tallyclerk.contracts.projections import arrow_schema
from tallyclerk.exceptions import SpecErrors
from tallyclerk.sinks.avro_columns import check_avro

CONTRACTS = sorted((ROOT / "include" / "contracts").glob("*.odcs.yaml"))


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.name)
def test_every_contract_has_an_avro_record_that_its_own_rows_fit(path: Path) -> None:
    contract = load_contract(path)
    record = avro_schema(contract)
    fastavro.parse_schema(dict(record))
    check_avro(arrow_schema(contract), record)
    assert (record["name"], record.get("namespace")) == (contract.dataset, contract.namespace)


def test_a_column_has_the_type_of_the_table_when_the_contract_is_the_sales() -> None:
    record = avro_schema(load_contract(ROOT / "include" / "contracts" / "transactions.odcs.yaml"))
    types = {field["name"]: field["type"] for field in record["fields"]}
    assert types["transaction_id"] == {"type": "string", "logicalType": "uuid"}
    assert types["household_id"] == "long"
    assert types["product_id"] == "string"
    assert types["quantity"] == "int"
    assert types["sales_value"] == {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
    assert types["transaction_timestamp"] == {"type": "long", "logicalType": "timestamp-micros"}
    assert record["namespace"] == "pipeline.retail"


def test_a_nullable_column_is_a_union_with_default_null() -> None:
    record = avro_schema_of(pa.schema([("a", pa.date32())]), name="r", namespace=None)
    assert record["fields"] == [
        {"name": "a", "type": ["null", {"type": "int", "logicalType": "date"}], "default": None}
    ]
    assert "namespace" not in record


def test_all_mistakes_are_told_at_once_when_names_and_types_do_not_fit() -> None:
    schema = pa.schema([("a b", pa.int32()), ("c", pa.list_(pa.int32())), ("d", pa.uint64()), ("e", pa.time64("us"))])
    with pytest.raises(SpecErrors) as caught:
        avro_schema_of(schema, name="9", namespace=None)
    text = "\n".join(caught.value.findings)
    assert len(caught.value.findings) == 5
    assert all(part in text for part in ("'9'", "'a b'", "9.c", "9.d", "9.e"))
