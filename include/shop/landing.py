"""The nightly export: ``transactions_YYYY-MM-DD.csv`` for every complete day, in the landing folder.

A file has a header line, the columns of ``source.SALES_COLUMNS``, commas, ``\\n`` and no quotes; rows stand in
the source's order (by time); times are ``YYYY-MM-DD HH:MM:SS`` in UTC and money has two decimals. A file
appears whole, by a rename, or not at all.

``.shop-export.json`` beside the files lists those that are ours, with their sizes, under a stamp (shift, versions of
package and format). While the stamp holds, a file of the listed size is left alone; a missing, changed or half-made
one is written again. When the stamp changes, each listed file is written again or removed. A file that is not listed
is never touched.
"""

import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from include.shop import source
from include.shop.exceptions import ShopError
from include.shop.trading_days import TradingDays

FORMAT_VERSION = 1
MANIFEST_NAME = ".shop-export.json"
LOCK_NAME = ".shop-export.lock"
DAYS_PER_QUERY = 40  # about 25 MB of text: bounds the memory, and a scan of the source costs 0.1 s


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the content of a day's file depends on, beside the day."""

    shift_days: int
    package_version: str
    format_version: int


@dataclass(frozen=True, slots=True)
class Export:
    """What one export did: names of files written, left alone and removed, and the rows written."""

    folder: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]
    removed: tuple[str, ...]
    rows: int


def file_name(day: date) -> str:
    """The name of a day's file."""
    return f"transactions_{day.isoformat()}.csv"


def export_days(days: TradingDays, folder: Path, last: int | None = None) -> Export:
    """Bring the folder up to date: all complete days, or the ``last`` of them beside those that are there already.

    Safe to repeat and to interrupt; a second export at the same time waits for the first.

    :raises ShopError: a file that is not ours stands where one of ours belongs, or the source lost a row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder):
        return _export(days, folder, days.complete_days(last))


def _export(days: TradingDays, folder: Path, wanted: Sequence[date]) -> Export:
    stamp = Stamp(days.shift.days, source.package_version(), FORMAT_VERSION)
    old_stamp, listed = _read_manifest(folder)
    sizes: dict[str, int | None] = dict(listed) if old_stamp == stamp else dict.fromkeys(listed)
    complete = {file_name(day) for day in days.complete_days()}
    names = {file_name(day): day for day in wanted}
    whole = {name for name, size in sizes.items() if size is not None and _size(folder / name) == size}
    removed = sorted(name for name in sizes if name not in names and (name not in whole or name not in complete))
    due = [day for name, day in names.items() if name not in whole]
    kept = sorted(name for name in names if name in whole)
    if not due and not removed:
        return Export(folder, (), tuple(kept), (), 0)

    # The list comes first: a file without a size is ours but not known to be good, so a crash from here on is repaired
    foreign = {file_name(day) for day in due if file_name(day) not in sizes and (folder / file_name(day)).exists()}
    sizes |= {file_name(day): None for day in due if file_name(day) not in foreign}
    _write_manifest(folder, stamp, sizes)
    for name in removed:
        (folder / name).unlink(missing_ok=True)
        del sizes[name]
    rows = 0
    for day, count, content in _day_files(days, due):
        name = file_name(day)
        if name in foreign:
            _require_same(folder / name, content)
        else:
            _write_whole(folder / name, content)
        sizes[name] = len(content)
        rows += count
    _write_manifest(folder, stamp, sizes)
    return Export(folder, tuple(file_name(day) for day in due), tuple(kept), tuple(removed), rows)


def _day_files(days: TradingDays, due: Sequence[date]) -> Iterator[tuple[date, int, bytes]]:
    """Day, rows and content of each file."""
    fields = dict.fromkeys(source.SALES_COLUMNS, "CAST({} AS VARCHAR)")
    fields["transaction_timestamp"] = "strftime({}, '%Y-%m-%d %H:%M:%S')"
    # `||` and not concat_ws: a null must not shift the columns, it makes the line vanish and the count below fail
    line = " || ',' || ".join(form.format(name) for name, form in fields.items())
    query = f"""
        SELECT CAST(transaction_timestamp AS DATE) AS day, count(*), string_agg({line}, chr(10) ORDER BY position)
        FROM sales
        WHERE transaction_timestamp >= $first AND transaction_timestamp < $last + INTERVAL 1 DAY
          AND list_contains($days, CAST(transaction_timestamp AS DATE))
        GROUP BY day ORDER BY day
    """
    header = ",".join(source.SALES_COLUMNS)
    with source.connect_to_sales(days) as connection:
        for start in range(0, len(due), DAYS_PER_QUERY):
            part = list(due[start : start + DAYS_PER_QUERY])
            found = connection.execute(query, {"first": part[0], "last": part[-1], "days": part}).fetchall()
            if [day for day, _, _ in found] != part:
                raise ShopError(
                    f"{source.DISTRIBUTION} lacks a day between {part[0]} and {part[-1]}: install it again."
                )
            for day, rows, text in found:
                content = f"{header}\n{text}\n".encode()
                lines = content.count(b"\n") - 1
                if lines != rows:
                    raise ShopError(f"{file_name(day)} would hold {lines} of {rows} sales: a column holds nulls.")
                yield day, rows, content


def _read_manifest(folder: Path) -> tuple[Stamp | None, dict[str, int | None]]:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        return None, {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return Stamp(**document["stamp"]), dict(document["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ShopError(
            f"{path} cannot be read ({error!r}): remove it and the transactions_*.csv beside it."
        ) from error


def _write_manifest(folder: Path, stamp: Stamp, sizes: dict[str, int | None]) -> None:
    document = {"stamp": asdict(stamp), "files": dict(sorted(sizes.items()))}
    _write_whole(folder / MANIFEST_NAME, json.dumps(document, indent=1).encode())


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name.lstrip('.')}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _require_same(path: Path, content: bytes) -> None:
    if path.read_bytes() != content:
        raise ShopError(
            f"{path} was not written by the shop and differs from what it would write: "
            f"move it away, or set TALLYCLERK_LANDING."
        )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    with (folder / LOCK_NAME).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
