"""Memory is bounded by its limit, not by the table."""

import pytest

from bench.database_extract import sales_table
from bench.measure import measure

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def test_memory_does_not_grow_with_rows(uri: str) -> None:
    peaks = []
    for rows in (1_000_000, 4_000_000):
        with sales_table(uri, rows) as table:
            cost = measure("bench.database_extract:run_ours", uri=uri, table=table)
        assert cost.result["rows"] == rows
        peaks.append(cost.peak_rss_mib)
    assert max(peaks) < 600
    assert peaks[1] < peaks[0] + 80
