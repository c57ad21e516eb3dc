"""Read our own customProperties: what this profile says beyond the standard.

A property of another tool is left alone when it names its ``vendor``; any other unknown name is a finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.documents import Findings, Place, suggestion

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

LEVELS = {
    "csv": "a server of format csv",
    "rest": "a server of type api",
    "namespace": "the schema",
    "kafka": "the schema",
    "cassandra": "the schema",
    "incremental": "the schema",
    "onViolation": "a quality rule",
    "late": "the document",
}
"""Custom property → what it belongs to."""


def read_extensions(owner: Mapping[str, Any], place: Place, level: str, findings: Findings) -> dict[str, Any]:
    """Return the owner's custom properties, each as its model, and add findings for what is wrong with the others.

    :param level: what the owner is, as in ``LEVELS``.
    """
    from tallyclerk.contracts.extension_models import MODELS

    read: dict[str, Any] = {}
    first: set[str] = set()
    entries = owner.get("customProperties")
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if not isinstance(entry, dict) or not isinstance(entry.get("property"), str) or "vendor" in entry:
            continue  # broken ones are reported by the standard's own check
        here: Place = (*place, "customProperties", index)
        name = entry["property"]
        if name not in LEVELS:
            remedy = suggestion(name, [known for known, where in LEVELS.items() if where == level] or list(LEVELS))
            findings.add(
                (*here, "property"), f"unknown property {name!r}; {remedy} (another tool's needs its `vendor`)"
            )
        elif LEVELS[name] != level:
            findings.add((*here, "property"), f"{name!r} does not belong here; move it to {LEVELS[name]}")
        elif name in first:
            findings.add((*here, "property"), f"{name!r} stands twice; keep one of them")
        elif "value" in entry:
            first.add(name)
            if (model := _read(MODELS[name], entry["value"], (*here, "value"), findings)) is not None:
                read[name] = model
    return read


def extension_place(owner: Mapping[str, Any], place: Place, name: str) -> Place:
    """Where the value of a custom property stands."""
    for index, entry in enumerate(owner.get("customProperties") or ()):
        if isinstance(entry, dict) and entry.get("property") == name:
            return (*place, "customProperties", index, "value")
    return place


def _read(model: type[BaseModel], value: Any, place: Place, findings: Findings) -> BaseModel | None:
    from pydantic import ValidationError

    try:
        return model.model_validate(value)
    except ValidationError as refusal:
        _describe(model, refusal, place, findings)
        return None


def _describe(model: type[BaseModel], refusal: ValidationError, place: Place, findings: Findings) -> None:
    known = [str(field.alias) for field in model.model_fields.values() if field.alias]
    for error in refusal.errors(include_url=False):
        spot = tuple(step for step in error["loc"] if step != "[key]")
        kind, key = error["type"], spot[-1] if spot else ""
        if kind == "extra_forbidden":
            present = {step["loc"][0] for step in refusal.errors() if step["type"] == "missing"}
            findings.add((*place, *spot), f"unknown key; {suggestion(key, [*sorted(map(str, present)), *known])}")
        elif kind == "missing":
            findings.add((*place, *spot[:-1]), f"lacks the key {key!r}; add it")
        elif kind == "literal_error":
            allowed = [word.strip(" '") for word in error["ctx"]["expected"].replace(" or ", ",").split(",")]
            findings.add((*place, *spot), f"{error['input']!r} is not allowed; {suggestion(error['input'], allowed)}")
        elif kind == "value_error":
            findings.add((*place, *spot), f"{error['input']!r} {error['ctx']['error']}")
        elif kind in ("model_type", "dict_type"):
            findings.add((*place, *spot), f"must be a mapping with the keys {', '.join(known)}; write it as one")
        else:
            findings.add((*place, *spot), f"{error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}; mend it")
