"""Text of others, to be shown to people."""

from __future__ import annotations


def one_line(value: object, longest: int) -> str:
    """On one line, at most ``longest`` characters: a record's own text may hold line breaks, control characters, or a whole file."""
    text = "".join(character if character.isprintable() else repr(character)[1:-1] for character in str(value))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
