"""A YAML document that knows its lines, and the list of what is wrong with it.

YAML 1.2's core schema: ``no`` and ``2026-01-02`` are text, ``012`` is twelve, a key may stand only once. Anchors are refused, as
ODCS has no use for them and a document could refer to itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tallyclerk.exceptions import SpecErrors

Place = tuple[str | int, ...]
"""Where something stands: keys and list positions from the document's root."""

_LISTED_NAMES = 16
_NAMING_KEYS = ("name", "server", "property", "id")


class _CoreLoader(yaml.SafeLoader):
    """A safe loader with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own protocol

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(
                None, None, "anchors and aliases are not read; write it out", event.start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise yaml.composer.ComposerError(None, None, "a key must be a plain text", key.start_mark)
                if key.value in seen:
                    raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} is twice", key.start_mark)
                seen.add(key.value)
        return node


def _construct_int(loader: _CoreLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)))


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+0123456789.")),
):
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document.

    :param content: mappings, lists, text, numbers, truth values and None.
    """

    path: Path
    content: dict[str, Any]
    node: yaml.Node = field(repr=False)

    def line(self, place: Place) -> int:
        """The line on which ``place``, or the nearest thing above it that exists, begins."""
        node, line = self.node, 1
        for step in place:
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == str(step)), None)
                if found is None:
                    return line
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                return line
        return line

    def label(self, place: Place) -> str:
        """``schema[transactions].properties[week].required``: list items by their name where they have one."""
        label, here = "", self.content
        for step in place:
            here = _child(here, step)
            if isinstance(step, int):
                name = (
                    next((here[key] for key in _NAMING_KEYS if key in here), step) if isinstance(here, dict) else step
                )
                label += f"[{name}]"
            else:
                label += f".{step}" if label else step
        return label or "document"


@dataclass(slots=True)
class Findings:
    """Collects what is wrong, each with file, line, path and remedy, to be raised at once."""

    document: Document
    _entries: list[tuple[int, str, Place]] = field(default_factory=list)

    def add(self, place: Place, problem: str) -> None:
        """:param problem: "what is wrong; remedy"."""
        line = self.document.line(place)
        text = f"{self.document.path}:{line}: {self.document.label(place)}: {problem}"
        if (line, text, place) not in self._entries:
            self._entries.append((line, text, place))

    def covers(self, place: Place) -> bool:
        """Tell whether there is a finding about the place or something inside it."""
        return any(known[: len(place)] == place for _, _, known in self._entries)

    def raise_if_any(self) -> None:
        """:raises SpecErrors: something was found; in the order of the lines."""
        if self._entries:
            raise SpecErrors([text for _, text, _ in sorted(self._entries, key=lambda entry: entry[0])])


def read_document(path: Path) -> Document:
    """Read one YAML mapping.

    :raises SpecErrors: there is no such file, or it is not one YAML mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
        loader = _CoreLoader(text)
        try:
            node = loader.get_single_node()
            content = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except OSError as error:
        raise SpecErrors([f"{path}: document: cannot be read ({error.strerror}); name a contract's file"]) from None
    except UnicodeDecodeError:
        raise SpecErrors([f"{path}: document: is not UTF-8 text; save it as UTF-8"]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise SpecErrors(
            [f"{where}: document: is not YAML: {error.problem}; mend this line or the one above"]
        ) from None
    except yaml.YAMLError as error:
        raise SpecErrors([f"{path}: document: is not YAML: {' '.join(str(error).split())}; mend it"]) from None
    if node is None or not isinstance(content, dict):
        raise SpecErrors([f"{path}:1: document: is not a mapping; begin it with `apiVersion: v3.1.0`"])
    return Document(path, content, node)


def suggestion(wrong: object, known: Iterable[str]) -> str:
    """The remedy for a name that is not known: the nearest one, else all."""
    names = list(known)
    near = difflib.get_close_matches(str(wrong), names, n=1, cutoff=0.6)
    if not near:
        near = [name for name in names if name.lower() == str(wrong).lower()]
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= _LISTED_NAMES else "mend or remove it"


def _child(tree: Any, step: str | int) -> Any:
    if isinstance(tree, Mapping):
        return tree.get(step)
    if isinstance(tree, list) and isinstance(step, int) and step < len(tree):
        return tree[step]
    return None
