"""Configuration files with this machine's paths and ports filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from stack.errors import SettingError

_PLACE = re.compile(r"@([A-Z_]+)@")


def render(template: Path, target: Path, values: Mapping[str, object]) -> None:
    """Writes `template` to `target` with each `@NAME@` replaced.

    :raises SettingError: the template names a value that is not given.
    """

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in values:
            raise SettingError(f"{template} asks for @{name}@, which has no value")
        return str(values[name])

    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(_PLACE.sub(value, template.read_text()))
