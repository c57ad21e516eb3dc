"""From an ODCS document to a :class:`~tallyclerk.contracts.model.Contract`, with everything that is wrong at once.

The steps: YAML, the standard's own JSON Schema, our customProperties, then every name and expression against the
columns. A later step works with what the earlier ones could read.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from tallyclerk.contracts.column_reader import positions, read_columns
from tallyclerk.contracts.documents import Findings, Place, read_document
from tallyclerk.contracts.expressions import check_expressions
from tallyclerk.contracts.extensions import read_extensions
from tallyclerk.contracts.mappings import read_mappings, read_servers
from tallyclerk.contracts.model import Column, Contract, Late, Rule
from tallyclerk.contracts.quality_rules import quality_rules
from tallyclerk.contracts.references import check_references
from tallyclerk.contracts.row_rules import column_rules
from tallyclerk.contracts.standard import check_standard

_SCHEMA: Place = ("schema", 0)


def load_contract(path: str | Path) -> Contract:
    """Read one contract, offline.

    :raises SpecErrors: with all findings, each ``file:line: path.in.document: what is wrong; remedy``.
    """
    document = read_document(Path(path))
    findings = Findings(document)
    content = document.content
    check_standard(content, findings)
    for key in ("id", "version"):
        if content.get(key) == "":
            findings.add((key,), "is empty; fill it in")
    late = read_extensions(content, (), "the document", findings).get("late")
    csv, rest = read_servers(content, findings)
    schema = _schema(content, findings)
    columns = read_columns(schema, _SCHEMA, findings) if schema else ()
    rules: list[tuple[Rule, Place]] = []
    primary_key: tuple[str, ...] = ()
    partitioned_by: tuple[str, ...] = ()
    mappings = read_mappings(schema, _SCHEMA, columns, findings)
    if columns:
        primary_key = positions(schema, _SCHEMA, "primaryKey", "primaryKeyPosition", findings)
        partitioned_by = positions(schema, _SCHEMA, "partitioned", "partitionKeyPosition", findings)
        rules = _rules(schema, columns, findings)
        if isinstance(schema.get("name"), str):
            check_references(content, schema["name"], columns, _SCHEMA, findings)
        check_expressions(columns, rules, _logic_places(schema), findings)
    findings.raise_if_any()
    return Contract(
        id=content["id"],
        version=content["version"],
        dataset=schema["name"],
        path=document.path,
        fingerprint=fingerprint(content),
        columns=columns,
        primary_key=primary_key,
        partitioned_by=partitioned_by,
        rules=tuple(rule for rule, _ in rules),
        namespace=mappings.namespace,
        csv=csv,
        rest=rest,
        kafka=mappings.kafka,
        cassandra=mappings.cassandra,
        incremental=mappings.incremental,
        late=Late(late.after, late.action) if late else None,
    )


def fingerprint(content: object) -> str:
    """SHA-256 (hex) of a parsed document as canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _schema(content: dict[str, Any], findings: Findings) -> dict[str, Any]:
    """The one schema object; {} where there is none to read."""
    schemas = content.get("schema")
    if not isinstance(schemas, list) or not schemas:
        findings.add(("schema",), "names no data set; add one object with its `properties`")
        return {}
    for index in range(1, len(schemas)):
        findings.add(("schema", index), "is a second data set; give it a contract of its own")
    return schemas[0] if isinstance(schemas[0], dict) else {}


def _rules(schema: dict[str, Any], columns: tuple[Column, ...], findings: Findings) -> list[tuple[Rule, Place]]:
    rules: list[tuple[Rule, Place]] = []
    by_name = {column.name: column for column in columns}
    for index, entry in enumerate(schema["properties"]):
        place: Place = (*_SCHEMA, "properties", index)
        column = by_name.pop(str(entry.get("name")), None) if isinstance(entry, dict) else None
        if column:
            rules += column_rules(column, entry, place, findings)
            rules += quality_rules(entry.get("quality"), place, column, columns, findings)
    rules += quality_rules(schema.get("quality"), _SCHEMA, None, columns, findings)
    first: set[str] = set()
    for rule, place in rules:
        if rule.id in first:
            findings.add(place, f"the rule {rule.id!r} stands twice; give one of them another `id`")
        first.add(rule.id)
    return rules


def _logic_places(schema: dict[str, Any]) -> dict[str, Place]:
    return {
        entry["name"]: (*_SCHEMA, "properties", index, "transformLogic")
        for index, entry in enumerate(schema["properties"])
        if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }
