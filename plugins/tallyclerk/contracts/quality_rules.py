"""ODCS quality rules as SQL: ``library`` metrics, and ``sql`` of one narrow form.

The narrow form is ``SELECT count(*) FROM {object} WHERE <condition on one row>`` with ``mustBe: 0``: only a condition
can be applied to a row before it is written, so that the row can be rejected instead of found later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tallyclerk.contracts.comparisons import COMPARISONS, holds_sql, in_words
from tallyclerk.contracts.documents import Findings, Place, suggestion
from tallyclerk.contracts.extensions import read_extensions
from tallyclerk.contracts.model import Column, OnViolation, Rule, Threshold
from tallyclerk.contracts.projections import quoted
from tallyclerk.contracts.row_rules import text_literal, value_list

_NARROW = re.compile(
    r"\s*SELECT\s+count\(\s*\*\s*\)\s+FROM\s+\$?\{(?:object|schema|table)\}\s+WHERE\s+(.+?)\s*;?\s*", re.I | re.S
)
_COLUMN_SIGN = re.compile(r"\$?\{(?:property|column)\}")
_ANY_SIGN = re.compile(r"\$?\{(\w*)\}")
_SEVERITIES: dict[str, OnViolation] = {"error": "fail", "warning": "warn"}
_ARGUMENTS = {
    "rowCount": (),
    "nullValues": (),
    "missingValues": ("missingValues",),
    "invalidValues": ("validValues", "pattern"),
    "duplicateValues": ("properties",),
}


@dataclass(frozen=True, slots=True)
class _Check:
    """One entry of a ``quality`` list, and what it is about."""

    entry: Mapping[str, Any]
    place: Place
    column: Column | None
    columns: Mapping[str, Column]
    on_violation: OnViolation | None
    findings: Findings

    def problem(self, problem: str, *steps: str | int) -> None:
        self.findings.add((*self.place, *steps), problem)

    @property
    def arguments(self) -> Mapping[str, Any]:
        arguments = self.entry.get("arguments")
        return arguments if isinstance(arguments, dict) else {}

    @property
    def id(self) -> str:
        subject = f"{self.column.name}." if self.column else ""
        return str(self.entry.get("id") or f"{subject}{self.entry.get('metric', self.entry.get('type', 'rule'))}")

    def violation_effect(self) -> OnViolation:
        return self.on_violation or _SEVERITIES.get(str(self.entry.get("severity", "error")), "fail")

    def words(self, promise: str) -> str:
        """The promise, and behind it what the author says about it."""
        description = str(self.entry.get("description") or "").strip()
        return f"{promise} ({description})" if description else promise


def quality_rules(
    entries: object, place: Place, column: Column | None, columns: Iterable[Column], findings: Findings
) -> Iterator[tuple[Rule, Place]]:
    """Yield each rule of one ``quality`` list with its place; each problem becomes a finding.

    :param column: the column the list belongs to, or None for the schema's own list.
    """
    known = {item.name: item for item in columns}
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        here: Place = (*place, "quality", index)
        if not isinstance(entry, dict):
            continue  # reported by the standard's own check
        stated = read_extensions(entry, here, "a quality rule", findings).get("onViolation")
        check = _Check(entry, here, column, known, stated.root if stated else None, findings)
        severity = entry.get("severity", "error")
        if severity not in tuple(_SEVERITIES):
            check.problem(f"{severity!r} is not allowed; {suggestion(severity, _SEVERITIES)}", "severity")
        for key in ("schedule", "scheduler"):
            if key in entry:
                check.problem("rules are checked by each load, not on a schedule; remove it", key)
        rule = _rule(check)
        if rule and rule.kind == "table" and rule.on_violation == "reject":
            check.problem("a rule about the whole table cannot reject a row; write onViolation: warn or fail")
        elif rule:
            yield rule, here
        elif entry.get("type") != "text" and not findings.covers(here):
            check.problem("says nothing that can be checked; add a metric and a comparison, or write type: text")


def _rule(check: _Check) -> Rule | None:
    kind = check.entry.get("type", "library")
    if kind == "text":
        return None  # prose for readers
    if kind == "sql":
        return _sql_rule(check)
    if kind != "library":
        check.problem(f"rules of type {kind!r} are not applied here; use library or sql", "type")
        return None
    metric = check.entry.get("metric")
    if not isinstance(metric, str) or metric not in _ARGUMENTS:
        return None  # reported by the standard's own check
    for key in check.arguments:
        if key not in _ARGUMENTS[metric]:
            check.problem(f"unknown argument; {suggestion(key, _ARGUMENTS[metric])}", "arguments", key)
    threshold = _threshold(check, metric)
    if threshold is None:
        return None
    counted = _bad_row(check, metric)
    if metric == "rowCount":
        if check.column:
            check.problem("counts the table's rows; move it to the schema's quality", "metric")
        return _table_rule(check, threshold, "count(*)", "the number of rows")
    if metric == "duplicateValues":
        names = _key(check)
        # a row of several columns is never null as a whole; a single column's nulls repeat nothing
        key = ", ".join(map(quoted, names))
        measure = f"count({key if len(names) == 1 else '*'}) - count(DISTINCT ({key}))"
        return _table_rule(check, threshold, measure, f"repeated {', '.join(names)}") if names else None
    if counted is None or check.column is None:
        return None
    row_rule = metric == "invalidValues" or check.on_violation == "reject"
    if row_rule and (threshold.comparison, threshold.values) == ("mustBe", (0,)):
        words = check.words(f"{check.column.name} must be one of its allowed values")
        if metric != "invalidValues":
            words = check.words(f"{check.column.name} must not be empty")
        return _row_rule(check, {"invalidValues": "validValues"}.get(metric, metric), counted, words)
    return _table_rule(check, threshold, f"count(*) FILTER (WHERE {counted})", f"{metric} of {check.column.name}")


def _bad_row(check: _Check, metric: str) -> str | None:
    """SQL that is TRUE for a row that the metric counts."""
    if metric in ("rowCount", "duplicateValues"):
        return None
    if check.column is None:
        check.problem("counts the values of a column; move it to that column's quality", "metric")
        return None
    name = quoted(check.column.name)
    if metric == "nullValues":
        return f"{name} IS NULL"
    parts: list[str] = []
    for key, form in (("missingValues", "{} IN ({})"), ("validValues", "{} NOT IN ({})")):
        values = check.arguments.get(key)
        if key not in check.arguments or key not in _ARGUMENTS[metric]:
            continue
        if not isinstance(values, list) or not [value for value in values if value is not None]:
            check.problem(f"{values!r} is not a list of values; write one", "arguments", key)
        else:
            literals = value_list(
                check.column, [v for v in values if v is not None], (*check.place, "arguments", key), check.findings
            )
            parts += [form.format(name, literals)] if literals else []
    pattern = check.arguments.get("pattern")
    if metric == "invalidValues" and pattern is not None:
        if not isinstance(pattern, str) or check.column.type != "text":
            check.problem("a pattern is a text, for a column of type text; mend or remove it", "arguments", "pattern")
            return None
        parts.append(f"NOT regexp_matches({name}, {text_literal(pattern)})")
    if not check.arguments:
        check.problem(f"lacks the arguments {' or '.join(_ARGUMENTS[metric])}; add them", "arguments")
    if metric == "missingValues":
        return " OR ".join([f"{name} IS NULL", *parts])
    return " OR ".join(parts) or None


def _key(check: _Check) -> list[str]:
    if check.column:
        return [check.column.name]
    names = check.arguments.get("properties")
    if not isinstance(names, list) or not names:
        check.problem("lacks the columns that must not repeat; add arguments: {properties: [...]}", "arguments")
        return []
    unknown = False
    for index, name in enumerate(names):
        if not isinstance(name, str) or name not in check.columns:
            unknown = True
            check.problem(f"no column {name!r}; {suggestion(name, check.columns)}", "arguments", "properties", index)
    return [] if unknown else names


def _threshold(check: _Check, metric: str) -> Threshold | None:
    stated = [name for name in COMPARISONS if name in check.entry]
    unit = check.entry.get("unit", "rows")
    if unit not in ("rows", "percent"):
        check.problem(f"{unit!r} is not allowed; {suggestion(unit, ['rows', 'percent'])}", "unit")
        return None
    if metric == "rowCount" and unit == "percent":
        check.problem("a number of rows is not a percentage; write unit: rows", "unit")
        return None
    if len(stated) != 1:
        return None  # reported by the standard's own check
    value = check.entry[stated[0]]
    values = tuple(value) if isinstance(value, list) else (value,)
    wanted = 2 if stated[0].endswith("Between") else 1
    if len(values) != wanted or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        check.problem(f"{value!r} is not {'a number' if wanted == 1 else 'two numbers'}; write one", stated[0])
        return None
    if wanted == 2 and values[0] > values[1]:
        check.problem(f"{value!r} is empty; write the smaller number first", stated[0])
        return None
    return Threshold(metric, stated[0], values, unit)


def _sql_rule(check: _Check) -> Rule | None:
    query = check.entry.get("query")
    if not isinstance(query, str):
        return None
    found = _NARROW.fullmatch(query)
    if not found or check.entry.get("mustBe") != 0:
        check.problem(
            "only `SELECT count(*) FROM {object} WHERE <condition on one row>` with `mustBe: 0` is applied here; "
            "write the rule so, or as a metric",
            "query",
        )
        return None
    condition = _COLUMN_SIGN.sub(lambda _: quoted(check.column.name), found[1]) if check.column else found[1]
    if signs := _ANY_SIGN.findall(condition):
        check.problem(f"{{{signs[0]}}} stands for nothing here; name the column", "query")
        return None
    return _row_rule(check, "sql", condition, check.words(f"no row may have {' '.join(condition.split())}"))


def _row_rule(check: _Check, name: str, violation: str, message: str) -> Rule:
    return Rule(
        id=check.id,
        kind="row",
        check=name,
        violation=violation,
        message=message,
        on_violation=check.violation_effect(),
        column=check.column.name if check.column else None,
    )


def _table_rule(check: _Check, threshold: Threshold, measure: str, subject: str) -> Rule:
    if threshold.unit == "percent":
        measure = f"coalesce(100.0 * ({measure}) / nullif(count(*), 0), 0)"
    unit = "" if threshold.metric == "rowCount" else threshold.unit
    return Rule(
        id=check.id,
        kind="table",
        check=threshold.metric,
        violation=f"NOT ({holds_sql(measure, threshold.comparison, threshold.values)})",
        message=check.words(f"{subject} {in_words(threshold.comparison, threshold.values, unit)}"),
        on_violation=check.violation_effect(),
        column=check.column.name if check.column else None,
        measure=measure,
        threshold=threshold,
    )
