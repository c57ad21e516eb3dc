"""Bars as inline SVG. The table below a chart says the same in numbers, so that a chart only needs a name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1200, 260
"""About the pixels that a page has for it, so that its text is as large as the page's."""
_TOP, _BOTTOM, _LEFT = 12, 24, 56
_LABEL_WIDTH = 44


@dataclass(frozen=True, slots=True)
class Bar:
    """``kind`` is a class of the style sheet: who answers. Positions are in the chart's own units."""

    label: str
    told: str
    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    title: str
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    every: int
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    bottom: int = HEIGHT - _BOTTOM


def bar_chart(title: str, values: Sequence[tuple[str, float, str, str]]) -> Chart | None:
    """:param values: label, value (not below 0), what is told of it, kind. None where there are none."""
    if not values:
        return None
    grid = _grid(max(value for _, value, _, _ in values))
    highest = grid[-1]
    plot = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT) / len(values)
    bars = []
    for place, (label, value, told, kind) in enumerate(values):
        tall = plot * value / highest
        bars.append(
            Bar(label, told, kind, round(_LEFT + place * step + step * 0.12, 2), round(HEIGHT - _BOTTOM - tall, 2),
                round(min(step * 0.76, 48), 2), round(tall, 2))
        )  # fmt: skip
    ticks = tuple((round(HEIGHT - _BOTTOM - plot * value / highest, 2), f"{value:,.10g}") for value in grid)
    return Chart(title, tuple(bars), ticks, every=math.ceil(_LABEL_WIDTH / step))


def _grid(highest: float) -> list[float]:
    """From 0 to no less than the highest value, in at most five steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(highest / 5)) if highest > 0 else 1.0
    step = next(power * each for each in (1, 2, 5, 10) if power * each * 5 >= highest)
    return [step * number for number in range(max(1, math.ceil(highest / step)) + 1)]
