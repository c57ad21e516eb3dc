"""The gauges that tasks send, from the functions that make their values."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docs.generate.tables import table
from stack.settings import ROOT

_MAKERS = (("operators/reconcile.py", "_tell"), ("transfers/kafka_drain.py", "poll"))
"""Where the values come from that ``operators.metrics.tell`` is given."""


def markdown() -> str:
    """A table: the gauge, and the module that makes its value.

    :raises ValueError: a function that was known to make values makes none any more.
    """
    rows = []
    for module, function in _MAKERS:
        if not (names := sorted(_keys(module, function))):
            raise ValueError(f"{function}() of {module} makes no gauge: mend _MAKERS in docs/generate/metrics.py")
        rows += [(f"`tallyclerk.<dataset>.{name}`", f"`plugins/tallyclerk/{module}`") for name in names]
    return table(("gauge", "its value is made in"), rows)


def _keys(module: str, function: str) -> Iterator[str]:
    """Text keys of the dictionaries in a function, and of those assigned to by key."""
    tree = ast.parse((ROOT / "plugins" / "tallyclerk" / module).read_text())
    for body in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function):
        for node in ast.walk(body):
            if isinstance(node, ast.Dict):
                yield from (
                    key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
                )
            elif (
                isinstance(node, ast.Subscript)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.slice, ast.Constant)
            ):
                yield str(node.slice.value)
