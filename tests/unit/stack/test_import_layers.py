"""Imports point one way: core ← contracts ← sources, sinks ← hooks, serving, lineage ← transfers, operators ← cli, ui."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack.settings import ROOT

PACKAGE = ROOT / "plugins" / "tallyclerk"
LAYERS = (
    {"exceptions", "retries"},
    {"core"},
    {"contracts"},
    {"sources", "sinks"},
    {"hooks", "serving", "lineage"},
    {"transfers", "operators", "sensors", "triggers"},
    {"cli", "ui", "monitoring"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in LEVEL)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; what only a type checker reads is left out."""
    tree = ast.parse(path.read_text(), str(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body.clear()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_nothing_from_a_layer_above(path: Path) -> None:
    own = LEVEL[layer(path)]
    above = [
        name for name in imports(path) if name.startswith("tallyclerk.") and LEVEL.get(name.split(".")[1], own) > own
    ]
    assert not above


@pytest.mark.parametrize(
    "path", [path for path in MODULES if layer(path) == "core"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_core_knows_no_airflow(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] == "airflow"]
