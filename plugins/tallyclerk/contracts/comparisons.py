"""The eight comparisons of ODCS' quality rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

COMPARISONS: dict[str, tuple[str, Callable[[Sequence[str]], str]]] = {
    "mustBe": ("must be {0}", lambda v: f"= {v[0]}"),
    "mustNotBe": ("must not be {0}", lambda v: f"<> {v[0]}"),
    "mustBeGreaterThan": ("must be greater than {0}", lambda v: f"> {v[0]}"),
    "mustBeGreaterOrEqualTo": ("must be at least {0}", lambda v: f">= {v[0]}"),
    "mustBeLessThan": ("must be less than {0}", lambda v: f"< {v[0]}"),
    "mustBeLessOrEqualTo": ("must be at most {0}", lambda v: f"<= {v[0]}"),
    "mustBeBetween": ("must be between {0} and {1}", lambda v: f"BETWEEN {v[0]} AND {v[1]}"),
    "mustNotBeBetween": ("must not be between {0} and {1}", lambda v: f"NOT BETWEEN {v[0]} AND {v[1]}"),
}
"""Name → how a person reads it, and how it stands in SQL behind the measured value."""


def holds_sql(measure: str, comparison: str, values: Sequence[float]) -> str:
    """SQL that is TRUE when the measure is as it must be."""
    return f"({measure}) {COMPARISONS[comparison][1]([repr(value) for value in values])}"


def in_words(comparison: str, values: Sequence[float], unit: str) -> str:
    """``must be at least 3 percent``."""
    return f"{COMPARISONS[comparison][0].format(*values)} {unit}".rstrip()
