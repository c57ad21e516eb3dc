"""A Flink SQL script: its placeholders filled, and what of its state another script could take over."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallyclerk.exceptions import SpecError

JOB_NAME = "JOB_NAME"
"""The placeholder that the operator fills itself, as it does this one:"""
KAFKA_SECURITY = "KAFKA_SECURITY"
"""It stands alone in the options of a table on Kafka, and becomes as many more of them as a safe connection needs."""
_PLACEHOLDER = re.compile(r"@([A-Z][A-Z0-9_]*)@")
_UNSAFE = re.compile(r"['\";\n\r]|--")
_COMMENT_LINE = re.compile(r"(?m)^[ \t]*--.*$")
_STEP = re.compile(r"^[\s+\-:]*(?:\[\d+\]:)?([A-Z]\w+)[(\[](.*)$")
_ALIAS = re.compile(r" AS [\w$]+")
_GENERATED = re.compile(r"\$f\d+")
_STATELESS = frozenset(
    [
        "Calc",
        "Committer",
        "ConstraintEnforcer",
        "Correlate",
        "DropUpdateBefore",
        "Expand",
        "MiniBatchAssigner",
        "Sink",
        "StreamRecordTimestampInserter",
        "TableSourceScan",
        "Union",
        "WatermarkAssigner",
        "Writer",
    ]
)


@dataclass(frozen=True, slots=True)
class FlinkScript:
    """:param text: as submitted; a comment's line is empty, so that line numbers are the file's.
    :param digest: SHA-256 of what in it matters: neither comments nor empty lines do.
    """

    text: str
    digest: str


def read_script(
    path: str | Path, parameters: Mapping[str, Any], *, job: str, security: Callable[[], Mapping[str, str]] = dict
) -> FlinkScript:
    """:param parameters: value by placeholder (``@NAME@`` in the file); values stand within the file's quotation marks.
    :param security: gives the Java client's settings for ``@KAFKA_SECURITY@``; asked only when the file has it.
    :raises SpecError: there is no such file, a placeholder has no value, a value has no placeholder, or could leave its quotes.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(f"The Flink script {path} cannot be read: {error.strerror}.") from error
    return filled(text, parameters, job=job, source=str(path), security=security)


def filled(
    text: str,
    parameters: Mapping[str, Any],
    *,
    job: str,
    source: str,
    security: Callable[[], Mapping[str, str]] = dict,
) -> FlinkScript:
    """As :func:`read_script`, of a text. :param source: where it is from, for messages."""
    code = _COMMENT_LINE.sub("", text)
    values = {JOB_NAME: job, **{name: str(value) for name, value in parameters.items()}}
    names = set(_PLACEHOLDER.findall(code)) - {KAFKA_SECURITY}
    if missing := sorted(names - set(values)):
        raise SpecError(f"{source}: no value is given for @{'@, @'.join(missing)}@; name it in `parameters`.")
    if unused := sorted(set(values) - names - {JOB_NAME}):
        raise SpecError(f"{source} has no placeholder @{'@, @'.join(unused)}@, which `parameters` names.")
    options = dict(security()) if f"@{KAFKA_SECURITY}@" in code else {}
    given = {**{name: values[name] for name in names}, **options}
    if unsafe := sorted(name for name, value in given.items() if _UNSAFE.search(value)):
        raise SpecError(
            f"{source}: the value of {', '.join(unsafe)} has a quotation mark, a semicolon, a line break or a comment's sign."
        )
    # in one line, so that Flink's messages name the file's own
    values[KAFKA_SECURITY] = " ".join(f"'properties.{name}' = '{value}'," for name, value in options.items())
    done = _PLACEHOLDER.sub(lambda match: values[match[1]], code)
    lines = [line.rstrip() for line in done.splitlines()]
    return FlinkScript("\n".join(lines) + "\n", _digest(line for line in lines if line))


def misfit(former: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """Why the state of one plan cannot be another's; "" when every step that keeps state is the same.

    Flink itself compares types, and the steps' order: a sum by product, begun from the sums by customer, it carries on.

    :param former, changed: as :meth:`FlinkHook.plan` gives them.
    """
    before, after = Counter(_stateful(former)), Counter(_stateful(changed))
    gone, new = sorted((before - after).elements()), sorted((after - before).elements())
    parts = []
    if gone:
        parts.append(f"the state of {'; '.join(gone)} would be left behind")
    if new:
        parts.append(f"{'; '.join(new)} would begin with what is not its own, or with nothing")
    return ", and ".join(parts)


def _stateful(plan: Mapping[str, Any]) -> Iterator[str]:
    for node in plan["nodes"]:
        for line in node["description"].split("<br/>"):
            step = _STEP.match(line)
            if step and step[1] not in _STATELESS:
                yield f"{step[1]}({_GENERATED.sub('$f', _ALIAS.sub('', step[2]))}"


def _digest(lines: Iterator[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
