"""One entry of a settings file, read strictly: unknown keys, wrong types and unset variables become errors."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tallyclerk.cli.placeholders import PlaceholderError, expand
from tallyclerk.cli.yaml_scalars import Scalar, plain


def unknown_keys(mapping: Mapping[Any, object], known: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each key that is not known, with the remedy."""
    for key in map(plain, mapping):
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            yield (
                str(key),
                f"unknown key; did you mean {near[0]!r}?" if near else f"unknown key; known: {', '.join(known)}",
            )


class Entry:
    """Reads the fields of one entry, and collects what is wrong with them instead of raising.

    :param path: where the entry is, for messages, such as ``airflow.pools[0]``.
    :param errors: gets a line for each problem. Lines never hold a value.
    """

    def __init__(self, path: str, raw: Mapping[Any, object], environment: Mapping[str, str], errors: list[str]) -> None:
        self.path = path
        self.name: str | None = None
        self._raw = raw
        self._environment = environment
        self._errors = errors

    def problem(self, key: str, message: str) -> None:
        """Record one problem with one field."""
        self._errors.append(f"{self.path}.{key}: {message}")

    def identity(self, key: str) -> str | None:
        """Return the entry's name and use it in later messages."""
        self.name = self.text(key, required=True)
        if self.name:
            self.path = f"{self.path} ({self.name})"
        return self.name

    def text(self, key: str, *, required: bool = False) -> str | None:
        """Return the field as it was written, expanded; None when it is absent or empty."""
        raw = self._raw.get(key)
        if isinstance(raw, (dict, list)):
            self.problem(key, "must be a text, not a mapping or a list")
            return None
        errors_before = len(self._errors)
        value = self._expanded(key, raw.text if isinstance(raw, Scalar) else raw) or None
        if required and value is None and len(self._errors) == errors_before:
            self.problem(key, "is required and is empty; fill it in")
        return value

    def integer(self, key: str, *, low: int, high: int, required: bool = False) -> int | None:
        """Return the field as a whole number of the given range."""
        text = self.text(key, required=required)
        if text is None:
            return None
        if re.fullmatch(r"-?[0-9]{1,10}", text) and low <= int(text) <= high:
            return int(text)
        self.problem(key, f"must be a whole number from {low} to {high}")
        return None

    def structure(self, key: str) -> Any:
        """Return a mapping or list with its types, each text in it expanded; any other field as text."""
        raw = self._raw.get(key)
        return self._expanded(key, plain(raw)) if isinstance(raw, (dict, list)) else self.text(key)

    def json_object(self, key: str) -> dict[str, Any] | None:
        """Return a mapping, given as YAML or as JSON text, which is parsed before it is expanded: a secret may hold quotes."""
        raw = self._raw.get(key)
        if isinstance(raw, str) and raw.strip():
            try:
                raw = json.loads(raw)
            except json.JSONDecodeError as error:
                self.problem(key, f"is not JSON (line {error.lineno}, column {error.colno}); a YAML mapping is simpler")
                return None
        if raw is None or raw in ("", {}):
            return None
        if not isinstance(raw, dict):
            self.problem(key, "must be a mapping, or a JSON object as text")
            return None
        return dict(self._expanded(key, plain(raw)))

    def given(self, keys: Iterable[str]) -> list[str]:
        """Return those of the keys that hold something."""
        return [key for key in keys if self._raw.get(key) not in (None, "", {}, [])]

    def _expanded(self, key: str, tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: self._expanded(f"{key}.{name}", value) for name, value in tree.items()}
        if isinstance(tree, list):
            return [self._expanded(f"{key}[{index}]", value) for index, value in enumerate(tree)]
        if not isinstance(tree, str):
            return tree
        try:
            return expand(tree, self._environment)
        except PlaceholderError as error:
            self.problem(key, str(error))
            return tree
