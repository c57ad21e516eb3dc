"""A small good contract, and a way to break it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.exceptions import SpecErrors

GOOD = """\
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.2.0
status: active
servers:
  - server: landing
    type: custom
    format: csv
    path: sales_{date}.csv
    delimiter: ";"
    customProperties:
      - property: csv
        value: {nullText: "NULL", parseMode: FAILFAST}
schema:
  - name: sales
    customProperties:
      - property: kafka
        value: {topic: sales, key: [id]}
      - property: incremental
        value: {column: sold_at, lookback: PT10M}
      - property: cassandra
        value:
          keyspace: shop
          table: sales_by_customer
          partitionKey: [customer]
          clusteringKey: [sold_on, id]
          clusteringOrder: {sold_on: desc}
          columns: {customer: customer_id, sold_on: sold_on, id: id, amount: amount}
          types: {customer: text}
    properties:
      - {name: id, logicalType: string, physicalType: uuid, primaryKey: true, required: true}
      - {name: customer_id, logicalType: integer, physicalType: bigint, required: true}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true, logicalTypeOptions: {minimum: 0}}
      - {name: note, logicalType: string, physicalType: text, logicalTypeOptions: {maxLength: 20, pattern: "^[a-z ]*$"}}
      - name: channel
        logicalType: string
        physicalType: text
        quality:
          - {id: known_channel, metric: invalidValues, arguments: {validValues: [shop, web]}, mustBe: 0, severity: warning}
      - name: sold_at
        logicalType: timestamp
        physicalType: timestamp
        required: true
        logicalTypeOptions: {format: "yyyy-MM-dd HH:mm:ss"}
      - name: sold_on
        logicalType: date
        physicalType: date
        required: true
        partitioned: true
        transformSourceObjects: [sales.sold_at]
        transformLogic: CAST(sold_at AS DATE)
    quality:
      - {id: not_empty, metric: rowCount, mustBeGreaterThan: 0, severity: error}
      - {id: one_row_per_id, metric: duplicateValues, arguments: {properties: [id]}, mustBe: 0}
slaProperties:
  - {property: latency, value: 6, unit: h, element: sales.sold_at}
customProperties:
  - property: late
    value: {after: P2D, action: quarantine}
"""

Load = Callable[..., Contract]
Break = Callable[..., list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load the good contract after replacing texts of it: ``load(("old", "new"), ...)``."""

    def load_changed(*changes: tuple[str, str]) -> Contract:
        text = GOOD
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in the good contract"
            text = text.replace(old, new)
        path = tmp_path / "sales.odcs.yaml"
        path.write_text(text, encoding="utf-8")
        return load_contract(path)

    return load_changed


@pytest.fixture
def findings(load: Load, tmp_path: Path) -> Break:
    """The findings of the contract after the changes, without the folder's name."""

    def find(*changes: tuple[str, str]) -> list[str]:
        with pytest.raises(SpecErrors) as refusal:
            load(*changes)
        return [line.removeprefix(f"{tmp_path}/") for line in refusal.value.findings]

    return find
