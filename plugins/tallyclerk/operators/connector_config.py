"""A connector's declared configuration: read, compared, and searched for passwords in clear."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from tallyclerk.exceptions import ConnectorRefusedError, SpecError

_SECRET_NAME = re.compile(
    r"password|passwd|secret|token|credential|jaas|user\.info|private\.key|api\.?key", re.IGNORECASE
)
_REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.-]*:[^}]+\}")


def read_config(text: str, source: str | Path) -> dict[str, str]:
    """The settings as Connect keeps them: text by name.

    :param source: where ``text`` is from, for messages.
    :raises SpecError: it is no JSON object, or a value is neither text, number nor truth value.
    """
    try:
        document = json.loads(text, object_pairs_hook=_without_repetition)
    except ValueError as error:
        raise SpecError(f"{source} is not a connector's configuration: {error}. Write one JSON object.") from error
    if not isinstance(document, dict):
        raise SpecError(f"{source} is not a connector's configuration: write one JSON object.")
    return normal(document, source)


def normal(settings: Mapping[str, object], source: str | Path) -> dict[str, str]:
    """As :func:`read_config`, for settings that are a mapping already."""
    wrong = [name for name, value in settings.items() if not isinstance(value, str | int | float)]
    if wrong:
        raise SpecError(f"{source}: {', '.join(wrong)} must be text, a number or true/false.")
    if "name" in settings:
        raise SpecError(f"{source} has a setting 'name': the connector's name is the operator's.")
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()}


def refuse_clear_secrets(connector: str, config: Mapping[str, str], passwords: Set[str]) -> None:
    """Everybody who may look at Connect sees what stands in a configuration.

    :param passwords: settings that the plugin declares as passwords; others are known by their names.
    :raises ConnectorRefusedError: one of them has a value that is no reference to a configuration provider.
    """
    clear = [
        f"{name}: a secret in clear; put it into a file of the worker and write ${{file:/path/to.properties:key}}"
        for name, value in config.items()
        if value and _is_secret(name, passwords) and not _REFERENCE.search(value)
    ]
    if clear:
        raise ConnectorRefusedError(connector=connector, findings=clear)


@dataclass(frozen=True, slots=True)
class Change:
    """One setting that differs; None stands for absent. A secret's values are not kept."""

    name: str
    before: str | None
    after: str | None
    is_secret: bool = False

    def __str__(self) -> str:
        if self.is_secret:
            return f"{self.name}: changed (not shown)"
        if self.before is None:
            return f"{self.name}: added, {self.after!r}"
        if self.after is None:
            return f"{self.name}: removed, was {self.before!r}"
        return f"{self.name}: {self.before!r} → {self.after!r}"


def changes(before: Mapping[str, str], after: Mapping[str, str], passwords: Set[str]) -> list[Change]:
    """What turns ``before`` into ``after``, by name."""
    found = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old != new:
            secret = _is_secret(name, passwords)
            found.append(Change(name, None if secret else old, None if secret else new, secret))
    return found


def _is_secret(name: str, passwords: Set[str]) -> bool:
    return name in passwords or bool(_SECRET_NAME.search(name))


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} stands there twice")
    return dict(pairs)
