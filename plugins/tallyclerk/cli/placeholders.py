"""``${VAR}`` and ``${VAR:-default}`` in a settings file, as in a compose file. ``$${`` stands for a literal ``${``."""

from __future__ import annotations

import re
from collections.abc import Mapping

_PLACEHOLDER = re.compile(r"\$(?P<literal>\$\{)|\$\{(?P<body>[^}]*)\}|(?P<open>\$\{)")
_BODY = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-(?P<default>.*))?", re.DOTALL)


class PlaceholderError(ValueError):
    """A placeholder cannot be filled. The message never holds the text around it, which may be a secret."""


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Fill the placeholders of ``text``. As in a shell, ``:-`` also replaces a variable that is set but empty.

    :raises PlaceholderError: a variable without a default is not set, or a placeholder is malformed.
    """

    def fill(found: re.Match[str]) -> str:
        if found["literal"]:
            return "${"
        if found["open"]:
            raise PlaceholderError("'${' without '}': close it, or write '$${' for a literal '${'")
        body = _BODY.fullmatch(found["body"])
        if body is None:
            raise PlaceholderError("only ${NAME} and ${NAME:-default} are known; write '$${' for a literal '${'")
        value = environment.get(body["name"])
        if body["fallback"] is not None:
            return value or body["default"]
        if value is None:
            raise PlaceholderError(
                f"the environment variable {body['name']} is not set: "
                f"export it (or add it to .env), or write ${{{body['name']}:-default}}"
            )
        return value

    return _PLACEHOLDER.sub(fill, text)
