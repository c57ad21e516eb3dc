"""The check against the Open Data Contract Standard's own JSON Schema, which its Python package ships.

The package's pydantic model allows unknown keys almost everywhere; the JSON Schema does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.comparisons import COMPARISONS
from tallyclerk.contracts.documents import Findings, Place, suggestion

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator

SUPPORTED_VERSIONS = ("v3.1.0", "v3.2.0")


def check_standard(content: dict[str, Any], findings: Findings) -> None:
    """Add a finding for everything in the document that the standard forbids."""
    validator = _validator()
    for error in validator.iter_errors(content):
        _describe(validator, error, findings)
    version = content.get("apiVersion")
    if isinstance(version, str) and version.startswith("v") and version not in SUPPORTED_VERSIONS:
        findings.add(("apiVersion",), f"{version} is not read here; write {' or '.join(SUPPORTED_VERSIONS)}")


@cache
def _validator() -> Validator:
    from jsonschema import Draft201909Validator

    text = resources.files("open_data_contract_standard").joinpath("schema.json").read_text(encoding="utf-8")
    return Draft201909Validator(json.loads(text))


def _describe(validator: Validator, error: ValidationError, findings: Findings) -> None:
    place: Place = tuple(error.absolute_path)
    rule, instance, schema = str(error.validator), error.instance, error.schema
    if _is_echo_of_missing_type(error, findings):
        return
    if rule in ("unevaluatedProperties", "additionalProperties") and isinstance(instance, dict):
        known = sorted(set(_known_keys(validator, schema, instance)))
        for key in instance:
            if key not in known:  # what remains is an echo: a key that is known but holds something wrong
                findings.add((*place, key), f"unknown key; {suggestion(key, known)}")
    elif rule == "required":
        missing = [key for key in error.validator_value if key not in instance]
        for key in missing:
            findings.add(place, f"lacks the key {key!r}; add it")
    elif rule == "type":
        findings.add(place, f"{_shown(instance)} is not {_article(error.validator_value)}; {_type_remedy(error)}")
    elif rule in ("enum", "const"):
        allowed = [str(value) for value in (schema["enum"] if rule == "enum" else [schema["const"]])]
        findings.add(place, f"{_shown(instance)} is not allowed; {suggestion(instance, allowed)}")
    elif rule == "oneOf" and schema["oneOf"][0].get("required") == ["mustBe"]:
        if isinstance(instance, dict) and any(key.startswith("must") and key not in COMPARISONS for key in instance):
            return  # the misspelt comparison has its own finding
        findings.add(place, f"needs exactly one comparison; write one of {', '.join(COMPARISONS)}")
    else:
        findings.add(place, f"{error.message[:200]}; see the ODCS schema's rule {rule!r}")


def _is_echo_of_missing_type(error: ValidationError, findings: Findings) -> bool:
    """Without a logicalType the standard applies the rules of every type; the profile reports the lack itself."""
    here: Any = findings.document.content
    for step in error.absolute_path:
        if isinstance(here, dict) and "name" in here and "logicalType" not in here and step == "logicalTypeOptions":
            return True
        here = here[step]
    missing_map = error.validator == "required" and list(error.validator_value) == ["map"]
    return missing_map and isinstance(here, dict) and "logicalType" not in here


def _known_keys(validator: Validator, schema: Any, instance: dict[str, Any]) -> Iterator[str]:
    """The keys that a schema names for this instance, through its references and conditions."""
    if not isinstance(schema, dict):
        return
    yield from schema.get("properties", {})
    if reference := schema.get("$ref"):
        yield from _known_keys(validator, _resolve(reference), instance)
    for part in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _known_keys(validator, part, instance)
    if "if" in schema:
        applies = validator.evolve(schema=schema["if"]).is_valid(instance)
        yield from _known_keys(validator, schema.get("then" if applies else "else"), instance)


def _resolve(reference: str) -> Any:
    """The schema refers only to itself (``#/$defs/...``)."""
    here: Any = _validator().schema
    for step in reference.removeprefix("#/").split("/"):
        here = here[step]
    return here


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _article(types: str | list[str]) -> str:
    names = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
    names |= {"array": "a list", "object": "a mapping"}
    return " or ".join(names.get(name, name) for name in ([types] if isinstance(types, str) else types))


def _type_remedy(error: ValidationError) -> str:
    wanted = error.validator_value
    if wanted == "string" and isinstance(error.instance, (int, float)):
        return f'put it in quotes: "{error.instance}"'
    if wanted == "boolean":
        return "write true or false"
    if wanted in ("integer", "number") and isinstance(error.instance, str):
        return "write it without quotes"
    return f"write {_article(wanted)}"
