"""CSV files of a window, read under a contract with every line accounted for (:mod:`tallyclerk.sources.csv_account`)."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tallyclerk.contracts import Contract
from tallyclerk.contracts.model import CsvDialect
from tallyclerk.contracts.projections import arrow_schema
from tallyclerk.core.correction import Correction
from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import HeaderError, NoInputError, RecordError, SpecError, TooManyRejectsError
from tallyclerk.sources.csv_account import read_file
from tallyclerk.sources.csv_corrections import CorrectedFile, CsvCorrections
from tallyclerk.sources.csv_engine import connect
from tallyclerk.sources.csv_keys import deduplicated
from tallyclerk.sources.csv_progress import told_progress
from tallyclerk.sources.csv_query import CsvQuery
from tallyclerk.sources.csv_rejects import Reject, spool_rejects
from tallyclerk.sources.csv_table_rules import table_warnings
from tallyclerk.sources.landing_file import LandingFile, file_digest, open_landing_file

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
    :param corrections: of the window's rejected records, the newest of each; those of files that changed do not apply.
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
    corrections: tuple[Correction, ...] = ()

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
        self._check_key()
        query = CsvQuery(self.contract, self.dialect, self.required, self.filters)
        connection = connect(directory)
        try:
            landed = [
                open_landing_file(path, encoding=self.dialect.encoding, directory=directory)
                for path in self.files(window)
            ]
            for file in landed:
                self._check_header(file)
            read = []
            for number, file in enumerate(landed):
                with told_progress(connection, file) as tell:
                    account = read_file(connection, query, file, directory / f"rows-{number:05d}.parquet", tell)
                read.append(CsvCorrections(connection, query, directory).applied(account, self.corrections))
            accounts = [each.account for each in read]
            ledger = sum((account.ledger for account in accounts), Ledger())
            rejects = [(account.file.uri, reject) for account in accounts for reject in account.rejects]
            self._check_rejects(ledger, rejects, query)
            spools = [spool for each in read for spool in (each.account.spool, each.spool) if spool and spool.rows]
            if self.deduplicate_by and spools:
                spools, repeated = deduplicated(
                    connection, query, keys=self.deduplicate_by, read=read, spools=spools, directory=directory
                )
                ledger = replace(ledger, written=ledger.written - repeated, deduplicated=repeated)
            warnings = table_warnings(connection, self.contract, spools, keys_are_unique=bool(self.deduplicate_by))
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
            sources=tuple(account.facts(warnings) for account in accounts),
            details=self._corrected(read),
            fingerprint=self.fingerprint_of([(Path(file.uri).name, file.sha256) for file in landed]),
        )

    def fingerprint_of(self, digests: Sequence[tuple[str, str]]) -> str:
        """The load's fingerprint, from the name and SHA-256 of each file; the same whichever engine reads them."""
        decides: dict[str, Any] = {
            "files": list(digests),
            "contract": self.contract.fingerprint,
            "dialect": [str(getattr(self.dialect, name)) for name in sorted(self.dialect.__slots__)],
            "required": self.required,
            "filters": self.filters,
            "key": self.deduplicate_by,
        }
        known = set(digests)
        if applying := [each.decides for each in self.corrections if each.record[:2] in known]:
            decides["corrections"] = sorted(applying, key=lambda decided: decided[:3])
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _corrected(self, read: Sequence[CorrectedFile]) -> dict[str, Any]:
        """What became of the corrections, for the receipt; nothing where there are none."""
        if not self.corrections:
            return {}
        told = sum((Counter(each.counts) for each in read), Counter[str]())
        files = {(Path(each.account.file.uri).name, each.account.file.sha256) for each in read}
        changed = sum(each.record[:2] not in files for each in self.corrections)
        counts = {name: told[name] for name in ("applied", "given_up", "rejected")}
        counts["of_changed_files"] = changed
        # the record fits as it was delivered: the contract was mended since
        counts["not_needed"] = len(self.corrections) - sum(counts.values())
        return {"corrected": counts["applied"], "corrections": counts}

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

    def _check_key(self) -> None:
        unknown = set(self.deduplicate_by) - {column.name for column in self.contract.columns}
        if unknown:
            raise SpecError(f"deduplicate_by names {', '.join(sorted(unknown))}, which the contract does not have.")

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
