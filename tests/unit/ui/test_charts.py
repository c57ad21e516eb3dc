"""Bars and their grid."""

from __future__ import annotations

import pytest

from tallyclerk.ui.charts import bar_chart


@pytest.mark.parametrize(
    ("highest", "grid"),
    [
        (372.62, ["0", "100", "200", "300", "400"]),
        (5, ["0", "1", "2", "3", "4", "5"]),
        (14_261.75, ["0", "5,000", "10,000", "15,000"]),
        (0.5, ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]),
        (0, ["0", "1"]),
    ],
)
def test_the_grid_has_round_numbers_and_holds_the_highest_bar(highest: float, grid: list[str]) -> None:
    chart = bar_chart("dollars", [("7", highest, str(highest), "batch")])
    assert chart is not None
    assert [label for _, label in chart.ticks] == grid
    ((bar),) = chart.bars
    assert chart.ticks[-1][0] <= bar.y <= chart.bottom
    assert bar.height == pytest.approx(
        (chart.bottom - chart.ticks[-1][0]) * highest / float(grid[-1].replace(",", "")), abs=0.01
    )
    assert bar.y + bar.height == pytest.approx(chart.bottom, abs=0.02)


@pytest.mark.parametrize(("count", "every"), [(1, 1), (25, 1), (50, 2)])
def test_labels_do_not_touch_when_there_are_many_bars(count: int, every: int) -> None:
    chart = bar_chart("dollars", [(str(number), 1.0, "1", "batch") for number in range(count)])
    assert chart is not None
    assert chart.every == every


def test_there_is_no_chart_when_there_is_nothing_to_show() -> None:
    assert bar_chart("dollars", []) is None
