"""Java's date patterns, read as the engine reads them."""

from __future__ import annotations

from datetime import datetime

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyclerk.contracts.date_patterns import strptime_format

PATTERNS = {
    "yyyy-MM-dd HH:mm:ss": "%Y-%m-%d %H:%M:%S",
    "uuuu-MM-dd'T'HH:mm:ss": "%Y-%m-%dT%H:%M:%S",
    "dd.MM.yyyy HH:mm:ss": "%d.%m.%Y %H:%M:%S",
    "yyyyMMddHHmmss": "%Y%m%d%H%M%S",
    "yyyy-MM-dd HH:mm:ss.SSSSSS": "%Y-%m-%d %H:%M:%S.%f",
}


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS.items())
@settings(max_examples=25, deadline=None)
@given(moment=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda m: m.replace(microsecond=0)))  # noqa: DTZ001
def test_the_engine_reads_back_what_the_pattern_writes(pattern: str, expected: str, moment: datetime) -> None:
    translated = strptime_format(pattern)
    assert translated == expected
    read = duckdb.sql(f"SELECT strptime('{moment.strftime(expected)}', '{translated}')").fetchone()
    assert read == (moment,)


def test_milliseconds_are_read_by_the_engine() -> None:
    read = duckdb.sql(f"SELECT strptime('2026-01-02 03:04:05.678', '{strptime_format('yyyy-MM-dd HH:mm:ss.SSS')}')")
    assert read.fetchone() == (datetime(2026, 1, 2, 3, 4, 5, 678000),)  # noqa: DTZ001


@pytest.mark.parametrize(
    "pattern",
    ["yy-MM-dd", "YYYY-MM-dd", "yyyy-MM-DD", "dd MMM yyyy", "yyyy-MM-dd hh:mm", "HH:mm:ss", "yyyy-MM-dd'T", ""],
)
def test_what_could_be_read_wrong_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"is not read here|does not tell"):
        strptime_format(pattern)
