"""Bars as inline SVG. The table below a chart says the same in numbers, so that a chart only needs a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 200
_TOP, _BOTTOM, _LEFT = 12, 24, 64


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
    highest = max(value for _, value, _, _ in values) or 1.0
    plot = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT) / len(values)
    bars = []
    for place, (label, value, told, kind) in enumerate(values):
        tall = plot * value / highest
        bars.append(
            Bar(label, told, kind, round(_LEFT + place * step + step * 0.12, 2), round(HEIGHT - _BOTTOM - tall, 2),
                round(min(step * 0.76, 48), 2), round(tall, 2))
        )  # fmt: skip
    ticks = tuple((round(HEIGHT - _BOTTOM - plot * part, 2), f"{highest * part:,.0f}") for part in (0, 0.5, 1))
    return Chart(title, tuple(bars), ticks, every=max(1, -(-len(values) // 8)))
