"""The schema of change events."""

from __future__ import annotations

import pytest

from tallyclerk.contracts.changes import change_key, change_schema
from tallyclerk.contracts.projections import arrow_schema
from tallyclerk.exceptions import SpecError
from tests.unit.contracts.conftest import Load

KAFKA = "      - property: kafka\n        value: {topic: sales, key: [id]}\n"


def test_only_the_key_is_required_when_a_row_may_be_deleted(load: Load) -> None:
    schema = change_schema(load())
    stored = arrow_schema(load(), derived=False)
    assert schema.names == [*stored.names, "__op", "__lsn", "__ts_ms", "__deleted"]
    assert [str(schema.field(name).type) for name in stored.names] == [str(field.type) for field in stored]
    assert [field.name for field in schema if not field.nullable] == ["id", "__op", "__deleted"]
    assert [str(schema.field(name).type) for name in schema.names[-4:]] == ["string", "int64", "int64", "bool"]


def test_the_derived_columns_are_left_out_when_changes_come_from_the_source(load: Load) -> None:
    assert "sold_on" not in change_schema(load()).names


def test_the_primary_key_names_a_row_when_no_message_key_is_stated(load: Load) -> None:
    assert change_key(load((KAFKA, ""))) == ("id",)


def test_the_message_key_names_a_row_when_both_are_stated(load: Load) -> None:
    assert change_key(load(("key: [id]", "key: [customer_id, id]"))) == ("customer_id", "id")


def test_a_contract_is_refused_when_nothing_names_a_row(load: Load) -> None:
    with pytest.raises(SpecError, match="changes need a key"):
        change_schema(load((KAFKA, ""), ("physicalType: uuid, primaryKey: true", "physicalType: uuid")))


def test_a_contract_is_refused_when_the_key_is_derived(load: Load) -> None:
    with pytest.raises(SpecError, match=r"derived columns \(sold_on\)"):
        change_schema(load(("key: [id]", "key: [id, sold_on]")))
