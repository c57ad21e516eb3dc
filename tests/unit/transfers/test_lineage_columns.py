"""The columns that loads tell OpenLineage: what they read and what they store, where neither is the contract as it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import BaseOperator

from stack.settings import ROOT
from tallyclerk.transfers.csv_to_hdfs import CsvToHdfsOperator
from tallyclerk.transfers.database_changes_to_kafka import DatabaseChangesToKafkaOperator
from tallyclerk.transfers.kafka_to_cassandra import KafkaToCassandraOperator
from tallyclerk.transfers.kafka_to_hdfs import KafkaToHdfsOperator
from tallyclerk.transfers.lake_to_cassandra import LakeToCassandraOperator

CONTRACTS: Path = ROOT / "include" / "contracts"
OF_A_CHANGE = ["__op", "__lsn", "__ts_ms", "__deleted"]
OF_A_MESSAGE = ["_topic", "_partition", "_offset", "_timestamp"]
CUSTOMER = [
    *("household_id", "age", "income", "home_ownership", "marital_status", "household_size", "household_comp"),
    *("kids_count", "updated_at"),
]


@pytest.mark.parametrize(
    ("operator", "contract", "arguments", "read", "stored"),
    [
        (
            DatabaseChangesToKafkaOperator, "customers", {"database_conn_id": "db", "table": "public.customers"},
            CUSTOMER, [*CUSTOMER, *OF_A_CHANGE],
        ),
        (
            KafkaToHdfsOperator, "customers", {"target": "/t", "change_events": True},
            [*CUSTOMER, *OF_A_CHANGE], [*CUSTOMER, *OF_A_CHANGE, *OF_A_MESSAGE],
        ),
        (KafkaToHdfsOperator, "customers", {"target": "/t"}, CUSTOMER, CUSTOMER),
    ],
)  # fmt: skip
def test_changes_and_messages_have_columns_of_their_own_when_they_are_loaded(
    operator: type[BaseOperator], contract: str, arguments: dict[str, Any], read: list[str], stored: list[str]
) -> None:
    columns = operator(task_id="t", contract=str(CONTRACTS / f"{contract}.odcs.yaml"), **arguments).lineage_columns()
    assert (list(columns.read), list(columns.stored)) == (read, stored)


def test_a_derived_column_is_stored_and_not_read_when_a_file_is_loaded() -> None:
    contract = str(CONTRACTS / "transactions.odcs.yaml")
    columns = CsvToHdfsOperator(task_id="t", contract=contract, target="/t").lineage_columns()
    assert set(columns.stored) - set(columns.read) == {"transaction_date"}
    assert columns.stored["sales_value"] == "decimal(12,2)"


def test_the_types_are_cassandras_when_the_rows_go_there() -> None:
    batch = LakeToCassandraOperator(
        task_id="t", contract=str(CONTRACTS / "customer_kpis.odcs.yaml"), source="/t"
    ).lineage_columns()
    speed = KafkaToCassandraOperator(
        task_id="t", contract=str(CONTRACTS / "customer_kpis_speed.odcs.yaml")
    ).lineage_columns()
    for columns in (batch, speed):
        assert columns.stored["customer_id"] == "text"
        assert columns.stored["total_amount"] == "decimal"
        assert columns.read["total_amount"].startswith("decimal(")
