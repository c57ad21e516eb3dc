"""DuckDB as it is set up to read CSV files: bounded in memory, and counting at every step."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.sources.csv_values import literal

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "400MB"
# Level 1 packs sales as small as level 3 does, in half the time. A column with more than a few thousand values in a row
# group (122,880 rows) gains nothing by a dictionary, and looking for one costs more than packing it.
_PARQUET = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 3000, WRITE_BLOOM_FILTER false"
CSV_READER, ARROW_READER = "READ_CSV", "ARROW_SCAN_DUMB"
"""The engine's names of what brings the rows."""
_USUAL_STEPS = {"TABLE_SCAN", "FILTER", "PROJECTION", "COPY_TO_FILE", "BATCH_COPY_TO_FILE", "EXPLAIN_ANALYZE"}


def connect(directory: Path) -> duckdb.DuckDBPyConnection:
    """A connection of its own that spills into ``directory``."""
    import duckdb

    connection = duckdb.connect(
        config={
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(directory / "spill"),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
        }
    )
    connection.execute("SET TimeZone = 'UTC'")
    # A filter that is pushed down to the reader drags a second evaluation of every cast with it.
    connection.execute("SET disabled_optimizers = 'filter_pushdown,statistics_propagation'")
    return connection


def copy(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> int:
    """Write a query's rows to a Parquet file; returns how many."""
    row = connection.execute(_copy(query, target)).fetchone()
    return int(row[0]) if row else 0


def copy_counting(
    connection: duckdb.DuckDBPyConnection, query: str, target: Path, *, reader: str = CSV_READER
) -> tuple[int, tuple[int, ...] | None]:
    """Write the rows of one CSV file to a Parquet file, with the engine's own count of what each step let through.

    :returns: rows in the written file, by its footer; then the records read and what each filter passed on, in turn.
        None instead, where the engine had other steps than one reader and filters.
    """
    row = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {_copy(query, target)}").fetchone()
    steps = list(_steps(json.loads(row[1]))) if row else []
    footer = connection.execute(f"SELECT num_rows FROM parquet_file_metadata({literal(str(target))})").fetchone()
    rows = int(footer[0]) if footer else 0
    if [step["operator_name"] for step in steps if step["operator_type"] == "TABLE_SCAN"] != [reader]:
        return rows, None
    if {step["operator_type"] for step in steps} - _USUAL_STEPS:
        return rows, None
    return rows, tuple(
        step["operator_cardinality"] for step in reversed(steps) if step["operator_type"] in ("TABLE_SCAN", "FILTER")
    )


def paths_list(paths: Sequence[Path]) -> str:
    """Files as an SQL list, for ``read_parquet``."""
    return "[" + ", ".join(literal(str(path)) for path in paths) + "]"


def _copy(query: str, target: Path) -> str:
    return f"COPY ({query}) TO {literal(str(target))} ({_PARQUET})"


def _steps(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's steps, the last one (which writes) first; the plan itself is none."""
    if "operator_type" in step:
        yield step
    for child in step.get("children", ()):
        yield from _steps(child)
