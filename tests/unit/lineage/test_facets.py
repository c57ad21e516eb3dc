"""Receipts as OpenLineage's facets; what is sent is looked at as the JSON that it becomes."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import jsonschema
import pytest
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.serde import Serde

from stack.settings import ROOT
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.lineage.facets import Columns, lineage_of

LAKE = "hdfs://namenode:8020/data/raw/sales"
DAY = Receipt(
    dataset="sales",
    window="2026-03-10",
    ledger=Ledger(read=30, written=20, rejected=4, filtered=5, deduplicated=1),
    location=LAKE,
    paths=tuple(f"{LAKE}/year=2026/month=03/day=10/part-{number}.zstd.parquet" for number in range(2)),
    version=7,
    load_id="attempt",
    contract_version="1.2.0",
    fingerprint="f",
    sources=(
        {"uri": "file:///landing/a.csv", "records": 10, "bytes": 100},
        {"uri": "file:///landing/b.csv", "records": 20, "bytes": 200},
    ),
    quarantine="hdfs://namenode:8020/data/quarantine/sales",
    details={"written_bytes": 999, "seconds": 1.5},
)
RANGE = {"sales": {"0": [5, 9], "1": [0, 2]}}
POLL = Receipt(
    dataset="sales",
    window="sales 0:5-9 1:0-2",
    ledger=Ledger(read=6, written=6),
    location="cassandra://node:9042/shop/sales",
    sources=({"uri": "kafka://broker:9092/sales", "records": 6},),
    cursor={"offsets": RANGE},
)


def told(lineage: OperatorLineage) -> dict[str, Any]:
    def sent(each: Any) -> Any:
        return json.loads(Serde.to_json(each))

    return {
        "in": [sent(dataset) for dataset in lineage.inputs],
        "out": [sent(dataset) for dataset in lineage.outputs],
        "run": {name: sent(facet) for name, facet in lineage.run_facets.items()},
    }


def by_name(datasets: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {dataset["name"]: dataset for dataset in datasets}
    assert len(found) == len(datasets)
    return found


def counts(facet: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    return facet.get("rowCount"), facet.get("size"), facet.get("fileCount")


@cache
def described(urn: str) -> dict[str, Any]:
    """The schema of one of our facets, by its ``_schemaURL``."""
    path, _, pointer = urn.removeprefix("urn:tallyclerk:").partition("#")
    schema = json.loads((ROOT / path).read_text())
    assert urn.startswith(schema["$id"])
    return {**schema, "$ref": f"#{pointer}"}


def test_each_file_and_the_table_are_told_with_their_rows_when_a_day_is_loaded() -> None:
    sent = told(lineage_of([DAY], Columns(read={"id": "bigint"}, stored={"id": "bigint", "day": "date"})))
    read, wrote = by_name(sent["in"]), by_name(sent["out"])
    assert {name: counts(each["inputFacets"]["inputStatistics"]) for name, each in read.items()} == {
        "/landing/a.csv": (10, 100, 1),
        "/landing/b.csv": (20, 200, 1),
    }
    table = wrote["/data/raw/sales"]
    assert counts(table["outputFacets"]["outputStatistics"]) == (20, 999, 2)
    condition = table["outputFacets"]["subset"]["outputCondition"]
    assert condition["type"] == "partition"
    assert condition["partitions"] == [
        {"dimensions": {"year": "2026", "month": "03", "day": "10"}, "identifier": "2026-03-10"}
    ]
    assert table["facets"]["version"]["datasetVersion"] == "7"
    columns = [(field["name"], field["type"]) for field in table["facets"]["schema"]["fields"]]
    assert columns == [("id", "bigint"), ("day", "date")]
    assert wrote["/data/quarantine/sales"]["outputFacets"] == {}
    (load,) = sent["run"]["tallyclerk_loads"]["loads"]
    assert load["ledger"] == DAY.ledger.as_dict()
    assert (load["committed"], load["repeated"]) == (True, False)
    assert load["output"] == {"namespace": "hdfs://namenode:8020", "name": "/data/raw/sales"}


def test_nothing_is_read_and_no_row_written_when_a_load_is_repeated() -> None:
    sent = told(lineage_of([DAY.as_repeated()], Columns()))
    assert [each["inputFacets"] for each in sent["in"]] == [{}, {}]
    (table,) = sent["out"]
    assert counts(table["outputFacets"]["outputStatistics"]) == (0, 0, 0)
    (load,) = sent["run"]["tallyclerk_loads"]["loads"]
    assert (load["repeated"], load["ledger"]["written"]) == (True, 20)


def test_rows_are_added_up_when_several_windows_go_into_one_table() -> None:
    window = replace(
        DAY, window="2026-03-11", paths=(f"{LAKE}/year=2026/month=03/day=11/x.parquet",), version=8, quarantine=""
    )
    sent = told(lineage_of([DAY, window, window.as_repeated()], Columns()))
    table = by_name(sent["out"])["/data/raw/sales"]
    assert counts(table["outputFacets"]["outputStatistics"]) == (40, 1998, 3)
    days = [each["identifier"] for each in table["outputFacets"]["subset"]["outputCondition"]["partitions"]]
    assert days == ["2026-03-10", "2026-03-11"]
    assert table["facets"]["version"]["datasetVersion"] == "8"
    assert counts(by_name(sent["in"])["/landing/a.csv"]["inputFacets"]["inputStatistics"]) == (20, 200, 2)
    assert len(sent["run"]["tallyclerk_loads"]["loads"]) == 3


def test_what_was_read_is_told_and_no_output_when_the_commit_fails() -> None:
    sent = told(lineage_of([POLL], Columns(), unsigned=DAY))
    assert set(by_name(sent["in"])) == {"sales", "/landing/a.csv", "/landing/b.csv"}
    assert set(by_name(sent["out"])) == {"shop.sales"}
    assert [load["committed"] for load in sent["run"]["tallyclerk_loads"]["loads"]] == [True, False]


def test_an_aggregates_rows_are_counted_when_its_ledger_is_of_the_rows_that_went_in() -> None:
    kpis = replace(DAY, details={"rows": 3}, paths=(f"{LAKE}/year=2026/month=03/day=10",))
    (table, _) = told(lineage_of([kpis], Columns()))["out"]
    assert counts(table["outputFacets"]["outputStatistics"]) == (3, None, None)
    assert table["outputFacets"]["subset"]["outputCondition"]["partitions"][0]["identifier"] == "2026-03-10"


def test_offsets_stand_at_the_topic_when_it_is_read_and_when_it_is_written() -> None:
    (read,) = told(lineage_of([POLL], Columns()))["in"]
    assert read["inputFacets"]["tallyclerk_offsets"]["offsets"] == RANGE["sales"]
    sender = replace(POLL, location="kafka://broker:9092/sales", cursor={}, details={"offsets": RANGE}, sources=())
    (wrote,) = told(lineage_of([sender], Columns()))["out"]
    assert wrote["outputFacets"]["tallyclerk_offsets"]["offsets"] == RANGE["sales"]


@pytest.mark.parametrize("receipt", [DAY, DAY.as_repeated(), POLL], ids=["day", "repeated", "poll"])
def test_our_facets_are_as_their_documented_schemas_say_when_they_are_sent(receipt: Receipt) -> None:
    sent = told(lineage_of([receipt], Columns()))
    groups = [
        sent["run"],
        *(each.get("inputFacets", {}) for each in sent["in"]),
        *(each["outputFacets"] for each in sent["out"]),
    ]
    ours = [facet for group in groups for name, facet in group.items() if name.startswith("tallyclerk_")]
    assert ours
    for facet in ours:
        assert facet["_producer"].startswith("urn:tallyclerk:")
        jsonschema.validate(facet, described(facet["_schemaURL"]), jsonschema.Draft202012Validator)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(facet | {"loads": 1, "offsets": 1}, described(facet["_schemaURL"]))


def test_nothing_is_told_when_a_task_has_loaded_nothing() -> None:
    assert lineage_of([], Columns()) == OperatorLineage()
