"""What ``load_csv.py`` is told: one JSON document, made from a contract by whoever submits the job.

.. code-block:: json

    {"dataset": "transactions", "window": "2026-01-31", "load_id": "...", "contract_version": "1.0.0", "fingerprint": "...",
     "target": "hdfs://host:8020/data/raw/transactions", "quarantine": "hdfs://host:8020/data/quarantine/transactions",
     "files": [{"uri": "file:///landing/transactions_2026-01-31.csv", "bytes": 1, "sha256": "...", "lines": 2}],
     "dialect": {"delimiter": ",", "quote": "\\"", "escape": "\\"", "header": true, "null_text": "", "encoding": "UTF-8"},
     "columns": [{"name": "sold_at", "type": "timestamp", "text_format": null},
                 {"name": "sold_on", "type": "date", "derived": "CAST(sold_at AS DATE)"}],
     "rules": [{"id": "amount_positive", "column": "amount", "check": "sql", "violation": "\\"amount\\" <= 0",
                "message": "must be positive", "on_violation": "reject"}],
     "table_rules": [{"id": "not_empty", "violation": "count(*) = 0", "measure": "count(*)", "message": "...",
                      "on_violation": "fail"}],
     "filters": ["\\"amount\\" > 0"], "deduplicate_by": ["transaction_id"], "mode": "PERMISSIVE", "max_rejected_ratio": 0.1}

``violation``, ``filters`` and ``derived`` are SQL over the typed columns, names in double quotes where they need quoting: the
part of SQL that DuckDB and Spark share. A file's ``bytes``, ``sha256`` and ``lines`` are optional facts of the submitter;
``lines`` is held against what is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from spark_jobs.failures import SpecificationError

MODES = ("PERMISSIVE", "DROPMALFORMED", "FAILFAST")
_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class CsvFile:
    uri: str
    bytes: int = -1
    sha256: str = ""
    lines: int = -1


@dataclass(frozen=True, slots=True)
class Dialect:
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    header: bool = True
    null_text: str = ""
    encoding: str = "UTF-8"


@dataclass(frozen=True, slots=True)
class CsvColumn:
    """:param text_format: a strptime format; None is ISO 8601. :param derived: SQL, for a column the files do not bring."""

    name: str
    type: str
    text_format: str | None = None
    derived: str | None = None

    @property
    def kind(self) -> str:
        return self.type.partition("(")[0]


@dataclass(frozen=True, slots=True)
class RowRule:
    """:param violation: SQL, TRUE for a bad row."""

    id: str
    violation: str
    message: str
    column: str = ""
    check: str = "sql"
    on_violation: str = "reject"

    @property
    def reason(self) -> str:
        return "required" if self.check == "required" else f"rule:{self.id}"


@dataclass(frozen=True, slots=True)
class TableRule:
    """:param violation: SQL aggregate over all rows, TRUE for a bad load. :param measure: the number it judges."""

    id: str
    violation: str
    message: str
    measure: str | None = None
    on_violation: str = "fail"
    check: str = "sql"


@dataclass(frozen=True, slots=True)
class CsvSpec:
    """See the module. Lists are tuples of the classes above.

    :param former: load id of the window's receipt when the attempt began, "" where it had none. With None, another's commit is
        noticed only when it comes while this one is under way.
    """

    dataset: str
    window: str
    target: str
    quarantine: str
    files: tuple[CsvFile, ...]
    columns: tuple[CsvColumn, ...]
    dialect: Dialect = field(default_factory=Dialect)
    rules: tuple[RowRule, ...] = ()
    table_rules: tuple[TableRule, ...] = ()
    filters: tuple[str, ...] = ()
    deduplicate_by: tuple[str, ...] = ()
    mode: str = "PERMISSIVE"
    max_rejected_ratio: float = 0.1
    load_id: str = ""
    contract_version: str = ""
    fingerprint: str = ""
    former: str | None = None

    @property
    def day(self) -> date:
        return date.fromisoformat(self.window)

    @property
    def source_columns(self) -> tuple[CsvColumn, ...]:
        return tuple(column for column in self.columns if column.derived is None)

    @property
    def load(self) -> str:
        return f"{self.dataset}@{self.window}"


def read_spec(argument: str) -> CsvSpec:
    """The document itself when the argument starts with ``{``, else the file it names.

    :raises SpecificationError: it cannot be read, or holds what this job does not know.
    """
    try:
        text = argument if argument.lstrip().startswith("{") else Path(argument).read_text(encoding="utf-8")
        facts = json.loads(text)
    except (OSError, json.JSONDecodeError) as error:
        raise SpecificationError(f"The specification {argument[:200]!r} cannot be read as JSON: {error}.") from None
    lists = {"files": CsvFile, "columns": CsvColumn, "rules": RowRule, "table_rules": TableRule}
    for name, part in lists.items():
        if name in facts:
            facts[name] = tuple(_part(part, entry, f"{name}[{number}]") for number, entry in enumerate(facts[name]))
    facts["dialect"] = _part(Dialect, facts.get("dialect", {}), "dialect")
    for name in ("filters", "deduplicate_by"):
        facts[name] = tuple(facts.get(name, ()))
    spec = _part(CsvSpec, facts, "the specification")
    _check(spec)
    return spec


def _part(part: type[_Part], entry: Mapping[str, Any], place: str) -> _Part:
    known = {each.name: each for each in fields(part)}  # type: ignore[arg-type]
    required = {name for name, each in known.items() if each.default is MISSING and each.default_factory is MISSING}
    if unknown := set(entry) - set(known):
        raise SpecificationError(f"{place}: unknown {', '.join(sorted(unknown))}; known: {', '.join(known)}.")
    if missing := required - set(entry):
        raise SpecificationError(f"{place}: {', '.join(sorted(missing))} missing.")
    return part(**entry)


def _check(spec: CsvSpec) -> None:
    if spec.mode not in MODES:
        raise SpecificationError(f"mode {spec.mode!r} is not one of {', '.join(MODES)}.")
    if not spec.files or not spec.source_columns:
        raise SpecificationError("The specification names no file or no column.")
    if len(spec.dialect.delimiter) != 1 or len(spec.dialect.quote) > 1 or len(spec.dialect.escape) > 1:
        raise SpecificationError("Delimiter, quote and escape are one character each (quote and escape may be empty).")
    if unknown := set(spec.deduplicate_by) - {column.name for column in spec.columns}:
        raise SpecificationError(f"deduplicate_by names {', '.join(sorted(unknown))}, which is no column.")
    try:
        date.fromisoformat(spec.window)
    except ValueError:
        raise SpecificationError(f"The window {spec.window!r} is not one UTC day, YYYY-MM-DD.") from None
