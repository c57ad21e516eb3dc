"""Names that stand as text, outside the mappings: sources of derived columns, and elements of service levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tallyclerk.contracts.documents import Findings, Place, suggestion
from tallyclerk.contracts.model import Column


def check_references(
    content: Mapping[str, Any], dataset: str, columns: Iterable[Column], place: Place, findings: Findings
) -> None:
    """Add a finding for each name of a column that does not exist."""
    columns = tuple(columns)
    every = [column.name for column in columns]
    sources = [column.name for column in columns if column.derived is None]
    for index, entry in enumerate(content["schema"][0].get("properties") or ()):
        objects = entry.get("transformSourceObjects") if isinstance(entry, dict) else None
        for number, text in enumerate(objects if isinstance(objects, list) else ()):
            spot = (*place, "properties", index, "transformSourceObjects", number)
            _check(text, dataset, sources, spot, findings, "no source column")
    levels = content.get("slaProperties")
    for index, level in enumerate(levels if isinstance(levels, list) else ()):
        element = level.get("element") if isinstance(level, dict) else None
        for text in str(element).split(",") if element else ():
            if text.strip() != dataset:
                _check(text.strip(), dataset, every, ("slaProperties", index, "element"), findings, "no column")


def _check(text: Any, dataset: str, names: list[str], spot: Place, findings: Findings, lack: str) -> None:
    if not isinstance(text, str):
        return  # reported by the standard's own check
    owner, dot, name = text.rpartition(".")
    if dot and owner != dataset:
        findings.add(spot, f"no data set {owner!r} in this contract; write {dataset}.{name}")
    elif name not in names:
        known = [f"{dataset}.{known}" for known in names] if dot else names
        findings.add(spot, f"{lack} {name!r}; {suggestion(text, known)}")
