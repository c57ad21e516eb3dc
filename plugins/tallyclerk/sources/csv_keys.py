"""Records of a window that repeat the key of another: the last one of each key is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tallyclerk.contracts.projections import quoted
from tallyclerk.core.extract import SpooledFile
from tallyclerk.sources.csv_engine import copy, paths_list
from tallyclerk.sources.csv_rejects import forget_rejects

if TYPE_CHECKING:
    import duckdb

    from tallyclerk.sources.csv_corrections import CorrectedFile
    from tallyclerk.sources.csv_query import CsvQuery

SORTED_ROWS = 20_000_000
"""Up to here the keys' hashes, 8 bytes each, are sorted in memory, at half the cost of the engine's own count."""


def deduplicated(
    connection: duckdb.DuckDBPyConnection,
    query: CsvQuery,
    *,
    keys: Sequence[str],
    read: Sequence[CorrectedFile],
    spools: list[SpooledFile],
    directory: Path,
) -> tuple[list[SpooledFile], int]:
    """The rows to write, and how many were dropped. The files are read again, numbered, only if there is a repetition."""
    rows = sum(spool.rows for spool in spools)
    if not _may_repeat(connection, keys, spools, rows):
        return spools, 0
    connection.execute("SET preserve_insertion_order = true")
    numbered = []
    for number, each in enumerate(read):
        target = directory / f"numbered-{number:05d}.parquet"
        _numbered(connection, query.rows(str(each.account.file.path), numbered=True), number, '"record number"', target)
        numbered.append(target)
        if each.mended is not None:
            # a corrected record stands where the delivered one stood
            place = f'({list(each.places)}::DOUBLE[])["record number"]'
            target = directory / f"numbered-{number:05d}-corrected.parquet"
            _numbered(connection, query.rows(str(each.mended.path), numbered=True), number, place, target)
            numbered.append(target)
    target = directory / "deduplicated.parquet"
    kept = copy(
        connection,
        f'SELECT * EXCLUDE ("record number", "file number", "place") FROM read_parquet({paths_list(numbered)}) '
        f"QUALIFY row_number() OVER (PARTITION BY {', '.join(map(quoted, keys))} "
        'ORDER BY "file number" DESC, "place" DESC, "record number" DESC) = 1',
        target,
    )
    connection.execute("SET preserve_insertion_order = false")
    return [SpooledFile(target, kept)], rows - kept


def _numbered(connection: duckdb.DuckDBPyConnection, rows: str, file_number: int, place: str, target: Path) -> None:
    forget_rejects(connection)
    copy(connection, f'SELECT *, {file_number} AS "file number", {place}::DOUBLE AS "place" FROM ({rows})', target)


def _may_repeat(
    connection: duckdb.DuckDBPyConnection, keys: Sequence[str], spools: Sequence[SpooledFile], rows: int
) -> bool:
    """FALSE only if all keys differ. Equal keys have equal hashes of 64 bits; two hashes of ten million other keys are
    equal once in 400,000 loads, which costs a second look."""
    hashed = f"hash({', '.join(map(quoted, keys))})"
    source = f"read_parquet({paths_list([spool.path for spool in spools])})"
    if rows > SORTED_ROWS:
        counted = connection.execute(f"SELECT count(DISTINCT {hashed}) FROM {source}").fetchone()
        return counted is None or int(counted[0]) != rows
    hashes = connection.execute(f"SELECT {hashed} AS hashed FROM {source}").fetchnumpy()["hashed"]
    hashes.sort()
    return len(hashes) != rows or bool((hashes[1:] == hashes[:-1]).any())
