"""ODCS states date formats as patterns of Java's DateTimeFormatter; text readers want strptime formats."""

from __future__ import annotations

import re

# Only what both sides read alike. `yy`, `h`, `a` and month names depend on a locale or a pivot year.
_LETTERS = {
    "yyyy": "%Y",
    "uuuu": "%Y",
    "MM": "%m",
    "M": "%m",
    "dd": "%d",
    "d": "%d",
    "HH": "%H",
    "H": "%H",
    "mm": "%M",
    "ss": "%S",
    "SSS": "%g",
    "SSSSSS": "%f",
    "xxx": "%z",
}
_DATE_PARTS = {"%Y", "%m", "%d"}
_TOKEN = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|.", re.DOTALL)


def strptime_format(pattern: str) -> str:
    """Translate ``yyyy-MM-dd HH:mm:ss`` to ``%Y-%m-%d %H:%M:%S`` (as DuckDB reads it: ``%g`` are milliseconds).

    :raises ValueError: the pattern has a letter that is not translated, or does not tell year, month and day.
    """
    parts: list[str] = []
    for token in _TOKEN.finditer(pattern):
        if token[1] is not None:
            parts.append(_literal(token[1].replace("''", "'") or "'"))
        elif token[2]:
            if token[0] not in _LETTERS:
                raise ValueError(f"{token[0]!r} is not read here; known: {', '.join(_LETTERS)}, 'text' in quotes")
            parts.append(_LETTERS[token[0]])
        elif token[0] in "'[]{}#":
            raise ValueError(f"{token[0]!r} is not read here; put literal text in single quotes, pairwise")
        else:
            parts.append(_literal(token[0]))
    if missing := _DATE_PARTS - set(parts):
        raise ValueError(f"does not tell the {', '.join(sorted(map(_part_name, missing)))}; write all of yyyy, MM, dd")
    return "".join(parts)


def _literal(text: str) -> str:
    return text.replace("%", "%%")


def _part_name(code: str) -> str:
    return {"%Y": "year", "%m": "month", "%d": "day"}[code]
