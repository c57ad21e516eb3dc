"""The customProperties that this project adds to ODCS, from their models."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from pydantic import RootModel

from docs.generate.tables import table
from tallyclerk.contracts import extension_models
from tallyclerk.contracts.extension_models import MODELS


def markdown() -> str:
    """A section for each property: where it stands, and its keys with their shapes and defaults."""
    return "\n\n".join(f"### `{name}`\n\n{_body(model)}" for name, model in MODELS.items())


def _body(model: type[Any]) -> str:
    schema = model.model_json_schema(by_alias=True)
    if issubclass(model, RootModel):
        return f"A value: {_shape(schema)}."
    needed = schema.get("required", ())
    rows = (
        (f"`{key}`", _shape(facts), "needed" if key in needed else f"`{_default(facts)}`")
        for key, facts in schema["properties"].items()
    )
    return f"{_docstring(model)}\n\n{table(('key', 'is', 'default'), rows)}"


def _docstring(model: type[Any]) -> str:
    """Of the class itself: pydantic gives its base's where it has none."""
    for node in ast.parse(inspect.getsource(extension_models)).body:
        if isinstance(node, ast.ClassDef) and node.name == model.__name__:
            return ast.get_docstring(node) or ""
    return ""


def _default(facts: dict[str, Any]) -> str:
    value = facts.get("default")
    return "none" if value in (None, "", [], {}) else str(value).lower() if isinstance(value, bool) else str(value)


def _shape(facts: dict[str, Any]) -> str:
    if choices := facts.get("enum"):
        return "one of " + ", ".join(f"`{choice}`" for choice in choices)
    if parts := facts.get("anyOf"):
        return " or ".join(_shape(part) for part in parts)
    words = {
        "array": "list of text",
        "object": "mapping",
        "string": "text",
        "null": "none",
        "boolean": "`true` or `false`",
    }
    kind = facts.get("type", "value")
    text = "ISO 8601 duration" if facts.get("format") == "duration" else words.get(kind, kind)
    limits = [f"{word} {facts[key]}" for key, word in _LIMITS.items() if key in facts]
    if pattern := facts.get("pattern"):
        limits.append(f"like `{pattern}`")
    return ", ".join([text, *limits])


_LIMITS = {
    "minimum": "at least",
    "maximum": "at most",
    "minItems": "entries at least",
    "maxLength": "characters at most",
}
