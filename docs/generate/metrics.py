"""What Prometheus is told: by the endpoint, from its measures; by the services, from the agent's rules. And the gauges that tasks send, from
the functions that make their values."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import yaml

from docs.generate.tables import table
from stack.settings import ROOT
from tallyclerk.monitoring.measures import MEASURES, PREFIX

_MAKERS = (("operators/reconcile.py", "_tell"), ("transfers/kafka_drain.py", "poll"))
"""Where the values come from that ``operators.metrics.tell`` is given."""


def markdown() -> str:
    """A section for each way by which a metric is told.

    :raises ValueError: a function that was known to make values makes none any more.
    """
    return "\n\n".join(
        (
            "## The endpoint's",
            "Scraped from the API server at `/tallyclerk/metrics`; all are gauges.",
            table(("metric", "labels", "says"), _measures()),
            "## The services'",
            "Scraped from each service; the agent tells of its JVM (`jvm_...`, `process_...`) as well.",
            table(("metric", "labels", "of"), _exported()),
            "## The tasks'",
            "Gauges that tasks send where Airflow's own metrics go (StatsD or OpenTelemetry, as Airflow is configured); nowhere when it "
            "sends none. The unit is the name's last part.",
            table(("gauge", "its value is made in"), _gauges()),
        )
    )


def _measures() -> Iterator[tuple[str, str, str]]:
    for measure in MEASURES:
        yield f"`{PREFIX}{measure.name}`", ", ".join(f"`{label}`" for label in measure.labels), measure.meaning


def exported() -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Each metric of the agent's rules: its name, its labels and the service whose rules they are."""
    for path in sorted((ROOT / "stack" / "conf" / "exporter").glob("*.yaml")):
        for rule in yaml.safe_load(path.read_text())["rules"]:
            for name in _names(rule["name"], rule["pattern"]):
                yield name, tuple(rule.get("labels", ())), path.stem


def _names(name: str, pattern: str) -> list[str]:
    """With every choice that the pattern gives in place of `$1`, `$2`, ..., in small letters as the agent writes them."""
    names = [name]
    groups = re.findall(r"\((?!\?)([^()]*)\)|\(\?=[^()]*\(([^()]*)\)\)", pattern)
    for number, choices in enumerate((first or second for first, second in groups), start=1):
        if f"${number}" in name:
            names = [each.replace(f"${number}", choice) for each in names for choice in choices.split("|")]
    return [each.lower() for each in names]


def _exported() -> Iterator[tuple[str, str, str]]:
    for name, labels, service in dict.fromkeys(exported()):
        yield f"`{name}`", ", ".join(f"`{label}`" for label in labels), service


def _gauges() -> Iterator[tuple[str, str]]:
    for module, function in _MAKERS:
        if not (names := sorted(_keys(module, function))):
            raise ValueError(f"{function}() of {module} makes no gauge: mend _MAKERS in docs/generate/metrics.py")
        for name in names:
            yield f"`tallyclerk.<dataset>.{name}`", f"`plugins/tallyclerk/{module}`"


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
