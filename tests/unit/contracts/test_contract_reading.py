"""What a good contract says, once it is read."""

from __future__ import annotations

import pickle
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tallyclerk.contracts import Column, CsvDialect, KafkaMapping, Late, load_contract
from tallyclerk.contracts.physical_types import TypeLimitError, UnknownTypeError, normalise
from tests.unit.contracts.conftest import Load

CONTRACTS = Path("include/contracts")


def test_everything_it_says_is_in_the_contract(load: Load) -> None:
    contract = load()
    assert (contract.id, contract.version, contract.dataset) == ("sales", "1.2.0", "sales")
    assert [column.name for column in contract.columns] == [
        "id", "customer_id", "amount", "note", "channel", "sold_at", "sold_on",
    ]  # fmt: skip
    assert contract.csv == CsvDialect("sales_{date}.csv", ";", null_text="NULL", parse_mode="FAILFAST")
    assert contract.kafka == KafkaMapping("sales", ("id",))
    assert contract.incremental is not None
    assert contract.incremental.lookback == timedelta(minutes=10)
    assert contract.late == Late(timedelta(days=2), "quarantine")
    assert contract.cassandra is not None
    assert contract.cassandra.primary_key == ("customer", "sold_on", "id")
    assert contract.cassandra.clustering_order == {"sold_on": "DESC"}
    assert contract.primary_key == ("id",)
    assert contract.partitioned_by == ("sold_on",)


def test_derived_columns_do_not_come_from_the_source(load: Load) -> None:
    contract = load()
    assert [column.name for column in contract.columns if column not in contract.source_columns] == ["sold_on"]
    assert contract.column("sold_on").derived == "CAST(sold_at AS DATE)"
    assert contract.column("sold_at").text_format == "%Y-%m-%d %H:%M:%S"
    assert contract.column("sold_at").time_zone == "Etc/UTC"


def test_a_decimal_tells_its_digits() -> None:
    assert (Column("a", "decimal(12,2)").precision, Column("a", "decimal(12,2)").scale) == (12, 2)
    assert (Column("a", "bigint").precision, Column("a", "bigint").scale) == (None, None)


def test_keys_stand_in_the_order_of_their_positions(load: Load) -> None:
    contract = load(
        ("primaryKey: true, required: true", "primaryKey: true, primaryKeyPosition: 2"),
        ("physicalType: bigint, required: true", "physicalType: bigint, primaryKey: true, primaryKeyPosition: 1"),
    )
    assert contract.primary_key == ("customer_id", "id")
    assert contract.column("id").required


def test_the_fingerprint_changes_with_the_content_and_not_with_the_layout(load: Load) -> None:
    fingerprint = load().fingerprint
    assert len(fingerprint) == 64
    assert load(("status: active", "status:   active  # a remark")).fingerprint == fingerprint
    assert load(("minimum: 0", "minimum: 1")).fingerprint != fingerprint


def test_a_contract_can_be_sent_to_another_process(load: Load) -> None:
    assert pickle.loads(pickle.dumps(load())) == load()


@pytest.mark.parametrize(
    ("stated", "normalised"),
    [
        ("NUMERIC(12, 2)", "decimal(12,2)"), ("decimal(5)", "decimal(5,0)"), ("varchar(20)", "text"), ("String", "text"),
        ("INT8", "bigint"), ("integer", "int"), ("timestamp with time zone", "timestamptz"), ("bytea", "bytes"),
        ("double  precision", "double"), ("bool", "boolean"),
    ],
)  # fmt: skip
def test_a_type_has_one_name(stated: str, normalised: str) -> None:
    assert normalise(stated) == normalised


@pytest.mark.parametrize("stated", ["decimal(39,2)", "decimal(2,3)", "decimal(0,0)", "decimal", "real"])
def test_a_type_that_loses_digits_is_refused(stated: str) -> None:
    with pytest.raises(TypeLimitError):
        normalise(stated)


def test_a_type_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownTypeError):
        normalise("money")


def test_importing_the_package_loads_no_driver() -> None:
    code = (
        "import sys, tallyclerk.contracts, tallyclerk.contracts.projections\n"
        "print([name for name in ('pyarrow', 'duckdb', 'pydantic', 'jsonschema') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": "plugins"}
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sorted(CONTRACTS.glob("*.odcs.yaml")), ids=lambda path: path.name)
def test_the_projects_own_contracts_are_good(path: Path) -> None:
    assert load_contract(path).dataset == path.name.partition(".")[0]


def test_a_sale_of_nothing_is_legal_and_an_empty_day_only_a_warning() -> None:
    rules = {rule.id: rule for rule in load_contract(CONTRACTS / "transactions.odcs.yaml").rules}
    assert rules["sales_value.minimum"].violation == '"sales_value" < 0'
    assert rules["sales_value.minimum"].on_violation == "reject"
    assert rules["not_empty"].on_violation == "warn"


def test_the_transactions_come_in_the_order_of_the_shops_files() -> None:
    from include.shop.source import SALES_COLUMNS

    contract = load_contract(CONTRACTS / "transactions.odcs.yaml")
    assert [column.name for column in contract.source_columns] == list(SALES_COLUMNS)
