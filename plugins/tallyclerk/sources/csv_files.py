"""CSV files of a window, read under a contract with every line accounted for.

The guard: in each file, header + records + lines that could not be read + newlines inside values + blank lines must be
exactly the file's physical lines. An unterminated quote, which swallows good rows without an error, breaks that sum.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts import Contract
from tallyclerk.contracts.model import CsvDialect
from tallyclerk.contracts.projections import arrow_schema, quoted
from tallyclerk.core.extract import Extract, SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import (
    DamagedFileError,
    HeaderError,
    NoInputError,
    RecordError,
    SpecError,
    TooManyRejectsError,
)
from tallyclerk.sources.csv_query import CsvQuery, duplicates, literal
from tallyclerk.sources.csv_rejects import (
    Reject,
    forget_rejects,
    misfit_rejects,
    spool_rejects,
    structural_rejects,
)
from tallyclerk.sources.landing_file import LandingFile, blank_lines, file_digest, open_landing_file

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

MEMORY_LIMIT = "400MB"
_EXAMPLES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class CsvFiles:
    """The files that match a pattern for a window.

    Modes: ``PERMISSIVE`` quarantines what does not fit and fails above ``max_rejected_ratio``; ``DROPMALFORMED``
    quarantines too and never fails for it; ``FAILFAST`` fails at any reject, before a row is written.

    :param folder: where deliveries land.
    :param pattern: glob below it, with ``{date}`` for the window's day; the contract's own when empty.
    :param dialect: the contract's, with the operator's overrides.
    :param required, filters: see :class:`~tallyclerk.sources.csv_query.CsvQuery`.
    :param deduplicate_by: key columns of which only the last record of the window is kept; empty for none.
    :param allow_empty: a window without files gives no rows instead of an error.
    """

    contract: Contract
    dialect: CsvDialect
    folder: Path
    pattern: str = ""
    required: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    deduplicate_by: tuple[str, ...] = ()
    max_rejected_ratio: float = 0.1
    allow_empty: bool = False
    load_id: str = ""

    def files(self, window: Window) -> list[Path]:
        """The window's files by name.

        :raises NoInputError: there is none.
        """
        pattern = (self.pattern or self.dialect.path).replace("{date}", window.day.isoformat())
        found = sorted(path for path in self.folder.glob(pattern) if path.is_file())
        if not found and not self.allow_empty:
            raise NoInputError(pattern=str(self.folder / pattern), window=window.key)
        return found

    def fingerprint(self, window: Window) -> str:
        return self.fingerprint_of([(path.name, file_digest(path)) for path in self.files(window)])

    def extract(self, window: Window, directory: Path) -> Extract:
        """Spool the window; see :class:`~tallyclerk.core.extract.Source`.

        :raises HeaderError, DamagedFileError: a file is not what the contract says, before any row is used.
        :raises TooManyRejectsError: by mode and ``max_rejected_ratio``.
        """
        query = CsvQuery(self.contract, self.dialect, self.required, self.filters)
        connection = _connect(directory)
        try:
            landed = [
                open_landing_file(path, encoding=self.dialect.encoding, directory=directory)
                for path in self.files(window)
            ]
            for file in landed:
                self._check_header(file)
            results = [
                self._read(connection, query, file, directory / f"rows-{number:05d}.parquet")
                for number, file in enumerate(landed)
            ]
            ledger = sum((result.ledger for result in results), Ledger())
            rejects = [(result.file.uri, reject) for result in results for reject in result.rejects]
            self._check_rejects(ledger, rejects, query)
            spools = [result.spool for result in results if result.spool.rows]
            if self.deduplicate_by and spools:
                spools, repeated = self._deduplicated(connection, query, landed, spools, directory)
                ledger = replace(ledger, written=ledger.written - repeated, deduplicated=repeated)
            warnings = self._table_warnings(connection, spools)
        finally:
            connection.close()
        return Extract(
            schema=arrow_schema(self.contract),
            files=tuple(spools),
            ledger=ledger,
            rejects=spool_rejects(
                rejects,
                directory / "rejects.parquet",
                dataset=self.contract.dataset,
                window=window.key,
                load_id=self.load_id,
                contract_version=self.contract.version,
            ),
            sources=tuple(result.facts(warnings) for result in results),
            fingerprint=self.fingerprint_of([(Path(file.uri).name, file.sha256) for file in landed]),
        )

    def fingerprint_of(self, digests: Sequence[tuple[str, str]]) -> str:
        """The load's fingerprint, from the name and SHA-256 of each file; the same whichever engine reads them."""
        decides = {
            "files": list(digests),
            "contract": self.contract.fingerprint,
            "dialect": [str(getattr(self.dialect, name)) for name in sorted(self.dialect.__slots__)],
            "required": self.required,
            "filters": self.filters,
            "key": self.deduplicate_by,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _check_header(self, file: LandingFile) -> None:
        """Names are compared before the data is read, because the reader goes by position alone."""
        if not self.dialect.header:
            return
        expected = [column.name for column in self.contract.source_columns]
        with file.path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
            found = next(
                csv.reader(lines, delimiter=self.dialect.delimiter, quotechar=self.dialect.quote or None, strict=False),
                [],
            )
        if found != expected:
            raise HeaderError(path=file.uri, expected=expected, found=found)

    def _read(
        self, connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, target: Path
    ) -> FileResult:
        header_lines = int(self.dialect.header)
        path = str(file.path)
        forget_rejects(connection)
        written = self._write_fitting(connection, query, file, target)
        structural = structural_rejects(connection, header_lines=header_lines)
        swallowing = next((r for r in structural if r.reason == "quote" and "\n" in r.raw_text), None)
        if swallowing:
            # the lines behind it are records of their own that would be quarantined as a part of this one
            raise DamagedFileError(
                path=file.uri,
                damage=f"the quote in line {swallowing.line_number:,} is not closed and swallows the lines behind it",
            )
        # the common case needs no second look: every line is a record that was written or could not be read
        if file.lines == header_lines + written + len(structural):
            ledger = Ledger(read=written + len(structural), written=written, rejected=len(structural))
            return FileResult(file, SpooledFile(target, written), ledger, structural)
        forget_rejects(connection)
        records, fitting, kept, newlines = connection.execute(query.counts(path)).fetchone() or (0, 0, 0, 0)
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
        if kept != written:
            raise DamagedFileError(
                path=file.uri, damage=f"it changed while it was read ({written:,}, then {kept:,} rows)"
            )
        misfits: list[Reject] = []
        if fitting != records:
            forget_rejects(connection)
            connection.execute("SET preserve_insertion_order = true")
            misfits = misfit_rejects(
                connection.execute(query.misfits(path)).fetchall(), structural, header_lines=header_lines
            )
            connection.execute("SET preserve_insertion_order = false")
        ledger = Ledger(
            read=records + len(structural),
            written=written,
            rejected=records - fitting + len(structural),
            filtered=fitting - kept,
        )
        return FileResult(file, SpooledFile(target, written), ledger, [*structural, *misfits])

    def _write_fitting(
        self, connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, target: Path
    ) -> int:
        import duckdb

        selected = f"SELECT {query.output} FROM ({query.typed(str(file.path))}) WHERE {query.fits} AND {query.kept}"
        try:
            return _copy(connection, selected, target)
        except duckdb.InvalidInputException as error:
            first = str(error).splitlines()[0]
            raise DamagedFileError(
                path=file.uri, damage=f"it cannot be read, most often because its lines end in different ways ({first})"
            ) from error
        except (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException) as error:
            if not self.filters:
                raise
            raise SpecError(f"row_filters {list(self.filters)} are no conditions over the columns: {error}") from error

    def _check_rejects(self, ledger: Ledger, rejects: list[tuple[str, Reject]], query: CsvQuery) -> None:
        named = len({(source, reject.record_number) for source, reject in rejects})
        if named != ledger.rejected:
            raise RecordError(
                f"{ledger.rejected:,} records were rejected but {named:,} could be named; nothing was committed. "
                "Send the file and the contract with a bug report."
            )
        if not ledger.rejected:
            return
        examples = [
            f"{source}:{reject.line_number}: {reject.column} {reject.reason}: {reject.detail}"
            for source, reject in rejects[:_EXAMPLES_SHOWN]
        ]
        failing = {f"rule:{rule.id}" for rule in query.rules if rule.on_violation == "fail"}
        limit = ""
        if any(reject.reason in failing for _, reject in rejects):
            limit = "the contract says that a broken rule fails the load"
        elif self.dialect.parse_mode == "FAILFAST":
            limit = "mode FAILFAST allows none"
        elif self.dialect.parse_mode == "PERMISSIVE" and ledger.rejected > self.max_rejected_ratio * ledger.read:
            limit = f"max_rejected_ratio allows {self.max_rejected_ratio:.2%}"
        if limit:
            raise TooManyRejectsError(rejected=ledger.rejected, read=ledger.read, limit=limit, examples=examples)

    def _deduplicated(
        self,
        connection: duckdb.DuckDBPyConnection,
        query: CsvQuery,
        landed: Sequence[LandingFile],
        spools: list[SpooledFile],
        directory: Path,
    ) -> tuple[list[SpooledFile], int]:
        """Keep the last record of each key. The rows are read again, numbered, only if there is a repetition at all."""
        unknown = set(self.deduplicate_by) - {column.name for column in self.contract.columns}
        if unknown:
            raise SpecError(f"deduplicate_by names {', '.join(sorted(unknown))}, which the contract does not have.")
        row = connection.execute(duplicates(self.deduplicate_by, _list([spool.path for spool in spools]))).fetchone()
        repeated = int(row[0]) if row else 0
        if not repeated:
            return spools, 0
        connection.execute("SET preserve_insertion_order = true")
        numbered = []
        for number, file in enumerate(landed):
            target = directory / f"numbered-{number:05d}.parquet"
            forget_rejects(connection)
            _copy(
                connection,
                f'SELECT {query.output}, "record number", {number} AS "file number" '
                f"FROM ({query.typed(str(file.path), numbered=True)}) WHERE {query.fits} AND {query.kept}",
                target,
            )
            numbered.append(target)
        keys = ", ".join(map(quoted, self.deduplicate_by))
        target = directory / "deduplicated.parquet"
        rows = _copy(
            connection,
            f'SELECT * EXCLUDE ("record number", "file number") FROM read_parquet({_list(numbered)}) '
            f'QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY "file number" DESC, "record number" DESC) = 1',
            target,
        )
        connection.execute("SET preserve_insertion_order = false")
        return [SpooledFile(target, rows)], sum(spool.rows for spool in spools) - rows

    def _table_warnings(self, connection: duckdb.DuckDBPyConnection, spools: list[SpooledFile]) -> list[str]:
        """Rules about all rows together: `warn` is told in the receipt, anything else fails the load."""
        warnings: list[str] = []
        if not spools:
            return warnings
        for rule in self.contract.table_rules:
            if rule.check == "duplicateValues" and self.deduplicate_by:
                continue
            source = f"read_parquet({_list([spool.path for spool in spools])})"
            broken, measured = connection.execute(
                f"SELECT {rule.violation}, {rule.measure or 'NULL'} FROM {source}"
            ).fetchone() or (False, None)
            if broken and rule.on_violation == "warn":
                warnings.append(f"{rule.id}: {rule.message} (measured {measured})")
            elif broken:
                raise RecordError(f"{rule.id}: {rule.message} (measured {measured}). Nothing was committed.")
        return warnings


@dataclass(frozen=True, slots=True)
class FileResult:
    """One file's rows and account."""

    file: LandingFile
    spool: SpooledFile
    ledger: Ledger
    rejects: list[Reject]

    def facts(self, warnings: list[str]) -> dict[str, Any]:
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


def _connect(directory: Path) -> duckdb.DuckDBPyConnection:
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


def _copy(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> int:
    """Write a query's rows to a Parquet file; returns how many."""
    row = connection.execute(f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)").fetchone()
    return int(row[0]) if row else 0


def _blank_in_values(
    connection: duckdb.DuckDBPyConnection, query: CsvQuery, file: LandingFile, structural: Sequence[Reject]
) -> int:
    """Blank lines of the file that stand inside a value, where they count as newlines of it already."""
    forget_rejects(connection)
    ((in_values,),) = connection.execute(query.blank_lines_in_values(str(file.path))).fetchall()
    in_rejects = sum(not line.strip("\r") for reject in structural for line in reject.raw_text.split("\n")[1:-1])
    return int(in_values) + in_rejects


def _list(paths: Sequence[Path]) -> str:
    return "[" + ", ".join(literal(str(path)) for path in paths) + "]"
