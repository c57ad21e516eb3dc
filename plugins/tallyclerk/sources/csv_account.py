"""One CSV file, read into Parquet with an account of its lines.

The guard: header + records + lines that could not be read + newlines inside values + blank lines must be exactly the
file's physical lines. An unterminated quote, which swallows good rows without an error, breaks that sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.exceptions import DamagedFileError, SpecError
from tallyclerk.sources.csv_engine import copy_counting
from tallyclerk.sources.csv_plain import copy_plain
from tallyclerk.sources.csv_progress import Tell
from tallyclerk.sources.csv_query import CsvQuery, Passed
from tallyclerk.sources.csv_rejects import Reject, forget_rejects, misfit_rejects, structural_rejects
from tallyclerk.sources.landing_file import LandingFile, blank_lines

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class FileAccount:
    """One file's rows, and what became of each of its records."""

    file: LandingFile
    spool: SpooledFile
    ledger: Ledger
    rejects: list[Reject]

    def facts(self, warnings: list[str]) -> dict[str, Any]:
        """The file as the receipt names it."""
        facts: dict[str, Any] = {
            "uri": self.file.uri,
            "bytes": self.file.size_bytes,
            "lines": self.file.lines,
            "records": self.ledger.read,
            "sha256": self.file.sha256,
        }
        if warnings:
            facts["warnings"] = warnings
        return facts


def read_file(
    connection: duckdb.DuckDBPyConnection,
    query: CsvQuery,
    file: LandingFile,
    target: Path,
    tell: Tell = lambda lines: None,
) -> FileAccount:
    """Write the file's good rows to ``target``, and say what became of the others.

    One reading of a file of plain values, or as text of one whose lines are records; a further one finds newlines and blank
    lines, or names the records that do not fit.

    :param tell: is told of the lines read so far, now and then.
    :raises DamagedFileError: lines are missing from the account.
    :raises SpecError: a row filter is no condition over the columns.
    """
    header_lines = int(query.dialect.header)
    forget_rejects(connection)
    written, passed, structural = _write(connection, query, file, target, tell)
    # a record takes a line at least: where they are as many, no line is blank, and no value holds a newline
    if passed is None or file.lines != header_lines + passed.records + len(structural):
        passed, structural = _account_for_lines(connection, query, file, structural)
    if passed.kept != written:
        raise DamagedFileError(
            path=file.uri, damage=f"it changed while it was read ({written:,}, then {passed.kept:,} rows)"
        )
    misfits = _misfits(connection, query, file, structural) if passed.fitting != passed.records else []
    ledger = Ledger(
        read=passed.records + len(structural),
        written=written,
        rejected=passed.records - passed.fitting + len(structural),
        filtered=passed.fitting - passed.kept,
    )
    return FileAccount(file, SpooledFile(target, written), ledger, [*structural, *misfits])


def _write(
    connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, target: Path, tell: Tell
) -> tuple[int, Passed | None, list[Reject]]:
    """The rows that fit, written; what went through, and what the reader could not read."""
    import duckdb

    try:
        if plain := copy_plain(connection, query, file, target, tell):
            return *plain, []
        written, counts = copy_counting(connection, query.rows(str(file.path)), target)
    except duckdb.InvalidInputException as error:
        first = str(error).splitlines()[0]
        raise DamagedFileError(
            path=file.uri, damage=f"it cannot be read, most often because its lines end in different ways ({first})"
        ) from error
    except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
        if not query.filters:
            raise
        raise SpecError(f"row_filters {list(query.filters)} are no conditions over the columns: {error}") from error
    structural = structural_rejects(connection, header_lines=int(query.dialect.header))
    swallowing = next((r for r in structural if r.reason == "quote" and "\n" in r.raw_text), None)
    if swallowing:
        # the lines behind it are records of their own that would be quarantined as a part of this one
        raise DamagedFileError(
            path=file.uri,
            damage=f"the quote in line {swallowing.line_number:,} is not closed and swallows the lines behind it",
        )
    return written, query.passed(counts), structural


def _account_for_lines(
    connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, structural: list[Reject]
) -> tuple[Passed, list[Reject]]:
    """The counts of a file with more lines than records, and its structural rejects numbered without blank lines."""
    header_lines = int(query.dialect.header)
    forget_rejects(connection)
    records, fitting, kept, newlines = connection.execute(query.counts(str(file.path))).fetchone() or (0, 0, 0, 0)
    in_rejects = sum(reject.raw_text.count("\n") for reject in structural)
    accounted = header_lines + records + len(structural) + int(newlines) + in_rejects
    blank = blank_lines(file.path) if file.lines != accounted else []
    if blank:
        accounted += len(blank) - _blank_in_values(connection, query, file, structural)
        structural = structural_rejects(connection, header_lines=header_lines, blank=blank)
    if file.lines != accounted:
        raise DamagedFileError(
            path=file.uri,
            damage=f"{file.lines:,} lines were delivered and {accounted:,} are accounted for; "
            "most often a quote is not closed and swallows the lines behind it",
        )
    return Passed(records, fitting, kept), structural


def _blank_in_values(
    connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, structural: Sequence[Reject]
) -> int:
    """Blank lines of the file that stand inside a value, where they count as newlines of it already."""
    forget_rejects(connection)
    ((in_values,),) = connection.execute(query.blank_lines_in_values(str(file.path))).fetchall()
    in_rejects = sum(not line.strip("\r") for reject in structural for line in reject.raw_text.split("\n")[1:-1])
    return int(in_values) + in_rejects


def _misfits(
    connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, structural: list[Reject]
) -> list[Reject]:
    """Read the file in order, to number and name the records that have their columns but do not fit."""
    forget_rejects(connection)
    connection.execute("SET preserve_insertion_order = true")
    rows = connection.execute(query.misfits(str(file.path))).fetchall()
    connection.execute("SET preserve_insertion_order = false")
    return misfit_rejects(rows, structural, header_lines=int(query.dialect.header))
