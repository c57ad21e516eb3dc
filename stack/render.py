"""Configuration files with this machine's paths and ports filled in."""

from __future__ import annotations

import os
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


def write_secret(path: Path, text: str) -> None:
    """Writes what only this user may read, whole or not at all, into a folder that only this user may enter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.write(text)
    draft.replace(path)
