"""Ages of messages, counted in buckets."""

from __future__ import annotations

import numpy as np
import pytest

from tallyclerk.core.freshness import Freshness


@pytest.mark.parametrize("share", [0.5, 0.95, 1.0])
def test_a_quantile_is_at_most_five_percent_too_high_when_ages_come_in_parts(share: float) -> None:
    ages = np.random.default_rng(7).lognormal(1.0, 1.5, 20_000)
    freshness = Freshness()
    for part in np.array_split(ages, 13):
        freshness.add(part)
    exact = float(np.quantile(ages, share, method="inverted_cdf"))
    assert exact <= freshness.quantile(share) * (1 + 1e-9)
    assert freshness.quantile(share) <= 1.05 * exact * (1 + 1e-9)
    assert freshness.max_seconds == ages.max()


def test_there_is_no_age_when_nothing_came() -> None:
    freshness = Freshness()
    freshness.add(np.zeros(0))
    assert freshness.as_dict() == {"max": 0.0, "p95": 0.0}


def test_an_age_counts_as_none_when_the_clock_is_behind() -> None:
    freshness = Freshness()
    freshness.add(np.array([-3.0, -1.0]))
    assert freshness.as_dict() == {"max": 0.0, "p95": 0.0}
