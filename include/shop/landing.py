"""The nightly export: ``transactions_YYYY-MM-DD.csv`` for every complete day, in the landing folder.

A file has a header line, the columns of ``source.SALES_COLUMNS``, commas, ``\\n`` and no quotes; rows stand in
the source's order (by time); times are ``YYYY-MM-DD HH:MM:SS`` in UTC and money has two decimals. A day on which the
shop was closed has a file of a header alone. A file appears whole, by a rename, or not at all.

A day's file is the same, byte for byte, on whatever day it is written. So when today moves on, files are only added:
those older than the complete days stay. The ``manifest`` tells which files are ours: a changed or half-made one is
written again, a missing one too when its day is asked for, and one of a day that is not over (``SHOP_TODAY`` was set
back) is removed. When the versions of package or format change, all of ours are written again. A file that is not
listed is never touched.
"""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from include.shop import source
from include.shop.exceptions import ShopError
from include.shop.manifest import Manifest, Stamp, file_name, write_whole
from include.shop.trading_days import CLOSED_SOURCE_DAY, TradingDays, showing

__all__ = ["Export", "export_days", "file_name"]

FORMAT_VERSION = 2
"""Raise it with any change by which a day's file comes out different; 2 is the calendar that never moves."""

LOCK_NAME = ".shop-export.lock"
DAYS_PER_QUERY = 40  # about 25 MB of text: bounds the memory, and a scan of the source costs 0.1 s


@dataclass(frozen=True, slots=True)
class Export:
    """What one export did: names of files written, left alone and removed, and the rows written."""

    folder: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    rows: int


def export_days(days: TradingDays, folder: Path, last: int | None = None) -> Export:
    """Bring the folder up to date: all complete days, or the ``last`` of them beside those that are there already.

    Safe to repeat and to interrupt; a second export at the same time waits for the first.

    :raises ShopError: a file that is not ours stands where one of ours belongs, or the source lost a row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder):
        return _export(days.today, folder, days.complete_days(last))


def _export(today: date, folder: Path, wanted: Sequence[date]) -> Export:
    manifest = Manifest.read(folder, Stamp(source.package_version(), FORMAT_VERSION))
    spoilt = {day for day in manifest.sizes if not manifest.is_good(day)}
    lost = {day for day in spoilt if not manifest.path(day).exists()}
    removed = sorted(day for day in manifest.sizes if day >= today or day in lost.difference(wanted))
    due = sorted(day for day in spoilt.union(wanted).difference(removed) if not manifest.is_good(day))
    kept = [day for day in wanted if manifest.is_good(day)]
    rows = 0
    if due or removed:
        foreign = {day for day in due if day not in manifest.sizes and manifest.path(day).exists()}
        # The list comes first: what it calls ours but not good is mended by the next export if this one dies
        manifest.sizes.update((day, None) for day in due if day not in foreign)
        manifest.write()
        for day in removed:
            manifest.path(day).unlink(missing_ok=True)
            del manifest.sizes[day]
        for day, count, content in _day_files(due):
            if day in foreign:
                _require_same(manifest.path(day), content)
            else:
                write_whole(manifest.path(day), content)
            manifest.sizes[day] = len(content)
            rows += count
        manifest.write()
    written_names, kept_names, removed_names = (tuple(map(file_name, named)) for named in (due, kept, removed))
    return Export(folder, written_names, kept_names, removed_names, rows)


def _day_files(due: Sequence[date]) -> Iterator[tuple[date, int, bytes]]:
    """Day, rows and content of each file."""
    fields = dict.fromkeys(source.SALES_COLUMNS, "CAST({} AS VARCHAR)")
    fields["transaction_timestamp"] = "strftime({}, '%Y-%m-%d %H:%M:%S')"
    # `||` and not concat_ws: a null must not shift the columns, it makes the line vanish and the count below fail
    line = " || ',' || ".join(form.format(name) for name, form in fields.items())
    query = f"SELECT day, count(*), string_agg({line}, chr(10) ORDER BY position) FROM sales GROUP BY day"  # noqa: S608
    header = ",".join(source.SALES_COLUMNS)
    for start in range(0, len(due), DAYS_PER_QUERY):
        part = due[start : start + DAYS_PER_QUERY]
        with source.connect_to_sales(part) as connection:
            found = {day: (rows, text) for day, rows, text in connection.execute(query).fetchall()}
        for day in part:
            source_day = showing(day).source_day
            if day not in found and source_day != CLOSED_SOURCE_DAY:
                raise ShopError(f"{source.DISTRIBUTION} lacks the day {source_day}: install it again.")
            rows, text = found.get(day, (0, None))
            content = f"{header}\n{text}\n".encode() if rows else f"{header}\n".encode()
            lines = content.count(b"\n") - 1
            if lines != rows:
                raise ShopError(f"{file_name(day)} would hold {lines} of {rows} sales: a column holds nulls.")
            yield day, rows, content


def _require_same(path: Path, content: bytes) -> None:
    if path.read_bytes() != content:
        raise ShopError(
            f"{path} was not written by the shop and differs from what it would write: "
            f"move it away, or set TALLYCLERK_LANDING."
        )


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    with (folder / LOCK_NAME).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
