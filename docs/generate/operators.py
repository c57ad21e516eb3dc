"""Operators and sensors, from their docstrings and signatures, read without importing Airflow or a driver."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from docs.generate.tables import table
from stack.settings import ROOT

_PLUGINS = ROOT / "plugins"
_GROUPS = {"transfers": "Loads", "operators": "Days, jobs and connectors", "sensors": "Sensors"}
_NAME = re.compile(r"(Operator|Sensor)$")
_FIELD = re.compile(r"^:(param|return|raises?)\s*([^:]*):\s*", re.MULTILINE)
_ROLE = re.compile(r":\w+:`~?(?:[\w.]+\.)?(\w+)`")


def markdown() -> str:
    """A section for each public class, grouped by package."""
    parts = []
    for folder, title in _GROUPS.items():
        parts.append(f"## {title}")
        for path in sorted((_PLUGINS / "tallyclerk" / folder).glob("*.py")):
            parts += [_section(path, node) for node in ast.parse(path.read_text()).body if _is_public(node)]
    return "\n\n".join(parts)


def _is_public(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and bool(_NAME.search(node.name)) and not node.name.startswith("_")


def _section(path: Path, node: ast.stmt) -> str:
    assert isinstance(node, ast.ClassDef)
    module = ".".join(path.relative_to(_PLUGINS).with_suffix("").parts)
    text = inspect.cleandoc(ast.get_docstring(node) or "")
    fields = list(_FIELD.finditer(text))
    body = text[: fields[0].start()] if fields else text
    bases = ", ".join(f"`{ast.unparse(base)}`" for base in node.bases)
    parts = [f"### {node.name}", f"`from {module} import {node.name}`; a {bases}.", _roles(body.strip())]
    defaults = dict(_defaults(node))
    rows, notes = [], []
    for here, after in zip(fields, [*fields[1:], None], strict=False):
        said = _roles(" ".join(text[here.end() : after.start() if after else None].split()))
        if here[1] == "param":
            names = [name.strip() for name in here[2].split(",")]
            shown = ", ".join(f"`{defaults[name]}`" if name in defaults else "needed" for name in names)
            rows.append((", ".join(f"`{name}`" for name in names), shown, said))
        else:
            notes.append(f"Returns {said}" if here[1] == "return" else f"Raises `{here[2]}`: {said}")
    if rows:
        parts.append(table(("parameter", "default", "is"), rows))
    return "\n\n".join([*parts, *notes])


def _defaults(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """Of the keyword-only arguments of ``__init__``."""
    for made in node.body:
        if isinstance(made, ast.FunctionDef) and made.name == "__init__":
            for argument, default in zip(made.args.kwonlyargs, made.args.kw_defaults, strict=True):
                if default is not None:
                    yield argument.arg, ast.unparse(default)


def _roles(text: str) -> str:
    """The last part of what a role names, as code; reStructuredText's double back-quotes stay as they are."""
    return _ROLE.sub(r"`\1`", text)
