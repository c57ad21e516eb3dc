"""Environment variables in a settings file."""

from __future__ import annotations

import pytest

from tallyclerk.cli.placeholders import PlaceholderError, expand

ENVIRONMENT = {"HOST": "db", "EMPTY": "", "LOOKS": "${HOST}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain $HOST 5$", "plain $HOST 5$"),
        ("${HOST}:${HOST}", "db:db"),
        ("${NOPE:-a:-b}", "a:-b"),
        ("${NOPE:-}", ""),
        ("${EMPTY}", ""),
        ("${EMPTY:-x}", "x"),
        ("$${HOST}", "${HOST}"),
        ("${LOOKS}", "${HOST}"),  # a value is not expanded again
    ],
)
def test_placeholders_are_filled_as_in_a_compose_file(text: str, expected: str) -> None:
    assert expand(text, ENVIRONMENT) == expected


@pytest.mark.parametrize("text", ["${NOPE}", "${}", "${1A}", "${HOST", "${HOST-x}", "${HOST:?x}"])
def test_a_placeholder_is_refused_when_it_cannot_be_filled(text: str) -> None:
    with pytest.raises(PlaceholderError):
        expand(f"secret {text} secret", ENVIRONMENT)
