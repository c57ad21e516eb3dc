"""A long read tells its progress, by the engine's own count."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from tallyclerk.sources.csv_engine import connect, copy
from tallyclerk.sources.csv_progress import told_progress
from tallyclerk.sources.landing_file import open_landing_file

LINES = 600_001


def test_rate_and_time_left_are_logged_while_a_large_file_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "large.csv"
    path.write_text("id,note\n" + "".join(f"{number},note {number}\n" for number in range(LINES - 1)))
    file = open_landing_file(path, encoding="utf-8", directory=tmp_path)
    connection = connect(tmp_path)
    query = f"SELECT * FROM read_csv('{path}', header = true, all_varchar = true)"
    with caplog.at_level(logging.INFO), told_progress(connection, file, every_seconds=0.01):
        assert copy(connection, query, tmp_path / "rows.parquet") == LINES - 1
    *along, last = [record.getMessage() for record in caplog.records]
    assert re.fullmatch(rf"{path.as_uri()}: done, 600,001 rows in [\d.]+ s, [\d,]+ rows/s", last)
    told = [re.search(r": ([\d,]+) rows in .*, (\d+) %, about \d+ s left$", line) for line in along]
    assert told
    shares = [int(match.group(2)) for match in told if match]
    assert len(shares) == len(along)
    assert shares == sorted(shares)


def test_nothing_is_told_as_done_when_the_read_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "small.csv"
    path.write_text("id\n1\n")
    file = open_landing_file(path, encoding="utf-8", directory=tmp_path)
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match="no"), told_progress(connect(tmp_path), file):
        raise ValueError("no")
    assert caplog.records == []
