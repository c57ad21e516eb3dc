"""Receipts as OpenLineage's provider wants them: data sets in and out, with row counts, partitions, schema, and the ledgers.

Imports OpenLineage, so that only its provider's own questions may lead here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import attr
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    OutputDatasetFacet,
    RunFacet,
    base_subset_dataset,
    dataset_version_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
    storage_dataset,
)

from tallyclerk import __version__
from tallyclerk.core.offsets import OFFSETS_KEY
from tallyclerk.core.receipt import Receipt
from tallyclerk.lineage.naming import DatasetName, dataset_name
from tallyclerk.sinks.lake_table import WRITTEN_BYTES_KEY

PRODUCER = f"urn:tallyclerk:{__version__}"
_SCHEMAS = "urn:tallyclerk:docs/reference/facets"
_DAY = re.compile(r"/year=(\d{4})/month=(\d{2})/day=(\d{2})(?:/|$)")


@attr.define
class LoadsRunFacet(RunFacet):
    """The loads of a task, each with its ledger: what data sets alone cannot tell is which rows became which."""

    loads: list[dict[str, Any]]

    @staticmethod
    def _get_schema() -> str:
        return f"{_SCHEMAS}/LoadsRunFacet.json#/$defs/LoadsRunFacet"


@attr.define
class OffsetsInputDatasetFacet(InputDatasetFacet):
    """Partition → the half-open range of offsets that was read."""

    offsets: dict[str, list[int]]

    @staticmethod
    def _get_schema() -> str:
        return f"{_SCHEMAS}/OffsetsDatasetFacet.json#/$defs/OffsetsInputDatasetFacet"


@attr.define
class OffsetsOutputDatasetFacet(OutputDatasetFacet):
    """Partition → the half-open range of offsets in which what was written stands."""

    offsets: dict[str, list[int]]

    @staticmethod
    def _get_schema() -> str:
        return f"{_SCHEMAS}/OffsetsDatasetFacet.json#/$defs/OffsetsOutputDatasetFacet"


@dataclass(frozen=True, slots=True)
class Columns:
    """Column → type, of what a task reads and of what it stores; empty where no contract tells."""

    read: Mapping[str, str] = field(default_factory=dict)
    stored: Mapping[str, str] = field(default_factory=dict)


def lineage_of(receipts: Sequence[Receipt], columns: Columns, *, unsigned: Receipt | None = None) -> OperatorLineage:
    """What a task's loads say of its lineage. A data set that several of them read or wrote is told once, its rows added up.

    A ``repeated`` load wrote nothing and is told with 0 rows; the ledger is that of the load that it found.

    :param unsigned: a load whose commit failed: what it read is told, and no output, as nobody will ever see one.
    """
    inputs: dict[DatasetName, _Read] = {}
    outputs: dict[DatasetName, _Wrote] = {}
    for receipt in (*receipts, unsigned) if unsigned else receipts:
        for source in receipt.sources:
            if name := dataset_name(source["uri"]):
                inputs.setdefault(name, _Read()).add(receipt, source)
    for receipt in receipts:
        if name := dataset_name(receipt.location):
            outputs.setdefault(name, _Wrote()).add(receipt)
    loads = [_load(receipt, committed=True) for receipt in receipts]
    loads += [_load(unsigned, committed=False)] if unsigned else []
    return OperatorLineage(
        inputs=[each.as_dataset(name, columns.read) for name, each in inputs.items()],
        outputs=[
            *(each.as_dataset(name, columns.stored) for name, each in outputs.items()),
            # how many rows quarantine got is not told: a record has one for each finding
            *(OutputDataset(name.namespace, name.name) for name in _quarantines(receipts)),
        ],
        run_facets={"tallyclerk_loads": LoadsRunFacet(loads=loads, producer=PRODUCER)} if loads else {},
    )


def _quarantines(receipts: Sequence[Receipt]) -> list[DatasetName]:
    """Where rejected records were put."""
    uris = {receipt.quarantine for receipt in receipts if receipt.ledger.rejected and not receipt.repeated} - {""}
    return [name for uri in sorted(uris) if (name := dataset_name(uri))]


@dataclass(slots=True)
class _Counts:
    """Rows, bytes and files, each None as long as nobody tells it."""

    rows: int | None = None
    size: int | None = None
    files: int | None = None

    def add(self, rows: int | None, size: int | None, files: int | None) -> None:
        self.rows, self.size, self.files = _sum(self.rows, rows), _sum(self.size, size), _sum(self.files, files)


@dataclass(slots=True)
class _Read:
    counts: _Counts = field(default_factory=_Counts)
    offsets: dict[str, list[int]] = field(default_factory=dict)
    version: int | None = None

    def add(self, receipt: Receipt, source: Mapping[str, Any]) -> None:
        self.version = source.get("version", self.version)
        if receipt.repeated:
            return  # the rows were not read
        files = 1 if source["uri"].startswith("file:") else source.get("files")
        self.counts.add(source.get("records"), source.get("bytes"), files)
        self.offsets |= _offsets(receipt.cursor, source["uri"])

    def as_dataset(self, name: DatasetName, columns: Mapping[str, str]) -> InputDataset:
        facets: dict[str, InputDatasetFacet] = {}
        if self.counts != _Counts():
            facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
                rowCount=self.counts.rows, size=self.counts.size, fileCount=self.counts.files, producer=PRODUCER
            )
        if self.offsets:
            facets["tallyclerk_offsets"] = OffsetsInputDatasetFacet(offsets=self.offsets, producer=PRODUCER)
        return InputDataset(name.namespace, name.name, inputFacets=facets, facets=_facets(name, columns, self.version))


@dataclass(slots=True)
class _Wrote:
    counts: _Counts = field(default_factory=_Counts)
    offsets: dict[str, list[int]] = field(default_factory=dict)
    days: set[tuple[str, ...]] = field(default_factory=set)
    version: int | None = None

    def add(self, receipt: Receipt) -> None:
        self.version = receipt.version if receipt.version >= 0 else self.version
        if receipt.repeated:
            self.counts.add(0, 0, 0)
            return
        files = [path for path in receipt.paths if path.endswith(".parquet")]
        # an aggregate's ledger is of the rows that went in
        rows = receipt.details.get("rows", receipt.ledger.written)
        self.counts.add(rows, receipt.details.get(WRITTEN_BYTES_KEY), len(files) or None)
        self.days |= {found.groups() for path in receipt.paths if (found := _DAY.search(path))}
        self.offsets |= _offsets(receipt.details, receipt.location)

    def as_dataset(self, name: DatasetName, columns: Mapping[str, str]) -> OutputDataset:
        facets: dict[str, OutputDatasetFacet] = {
            "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                rowCount=self.counts.rows, size=self.counts.size, fileCount=self.counts.files, producer=PRODUCER
            )
        }
        if self.days:
            partitions = [
                base_subset_dataset.Partition({"year": year, "month": month, "day": day}, f"{year}-{month}-{day}")
                for year, month, day in sorted(self.days)
            ]
            facets["subset"] = base_subset_dataset.OutputSubsetOutputDatasetFacet(
                outputCondition=base_subset_dataset.PartitionSubsetCondition(partitions), producer=PRODUCER
            )
        if self.offsets:
            facets["tallyclerk_offsets"] = OffsetsOutputDatasetFacet(offsets=self.offsets, producer=PRODUCER)
        return OutputDataset(
            name.namespace, name.name, outputFacets=facets, facets=_facets(name, columns, self.version)
        )


def _facets(name: DatasetName, columns: Mapping[str, str], version: int | None) -> dict[str, DatasetFacet]:
    facets: dict[str, DatasetFacet] = {}
    if columns:
        fields = [schema_dataset.SchemaDatasetFacetFields(column, kind) for column, kind in columns.items()]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields, producer=PRODUCER)
    if version is not None:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(str(version), producer=PRODUCER)
    if name.namespace.startswith("hdfs:"):
        facets["storage"] = storage_dataset.StorageDatasetFacet("delta", "parquet", producer=PRODUCER)
    return facets


def _load(receipt: Receipt, *, committed: bool) -> dict[str, Any]:
    """One load, as docs/reference/facets/LoadsRunFacet.json describes it."""
    output = dataset_name(receipt.location)
    facts: dict[str, Any] = {
        "dataset": receipt.dataset,
        "window": receipt.window,
        "ledger": receipt.ledger.as_dict(),
        "committed": committed,
        "repeated": receipt.repeated,
        "output": {"namespace": output.namespace, "name": output.name} if output else None,
        "contractVersion": receipt.contract_version,
        "loadId": receipt.load_id,
        "fingerprint": receipt.fingerprint,
        "offsets": receipt.cursor.get(OFFSETS_KEY) or receipt.details.get(OFFSETS_KEY),
        "seconds": receipt.details.get("seconds"),
    }
    return {name: fact for name, fact in facts.items() if fact not in (None, "")}


def _offsets(facts: Mapping[str, Any], uri: str) -> dict[str, list[int]]:
    """The ranges that a receipt's cursor or details hold of the topic of a URI."""
    topic = uri.rpartition("/")[2]
    return {partition: list(span) for partition, span in facts.get(OFFSETS_KEY, {}).get(topic, {}).items()}


def _sum(known: int | None, more: int | None) -> int | None:
    return known if more is None else (known or 0) + more
