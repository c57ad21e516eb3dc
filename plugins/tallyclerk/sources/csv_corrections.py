"""Rejected records of a CSV file, read again from what a person has written instead.

A corrected record goes through the engine, contract and dialect that the delivered ones go through. It keeps its number, and
its place among the file's records where the last one of a key is kept.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tallyclerk.core.correction import Correction
from tallyclerk.core.extract import SpooledFile
from tallyclerk.exceptions import DamagedFileError
from tallyclerk.sources.csv_account import FileAccount, read_file
from tallyclerk.sources.csv_query import CsvQuery
from tallyclerk.sources.csv_rejects import Reject
from tallyclerk.sources.landing_file import LandingFile, open_landing_file

if TYPE_CHECKING:
    import duckdb

MARK = "after correction {revision}: "
"""Before the detail of a record that is rejected although it was corrected."""


@dataclass(frozen=True, slots=True)
class CorrectedFile:
    """A file's account, with its corrections in it.

    :param spool: rows of corrected records, None when there are none.
    :param mended: a file of the corrected records that fit, and where each of them stands among the records of the delivered
        file that have their columns: a half is between two of them.
    :param counts: of corrections: ``applied``, ``given_up``, ``rejected`` again.
    """

    account: FileAccount
    spool: SpooledFile | None = None
    mended: LandingFile | None = None
    places: tuple[float, ...] = ()
    counts: Mapping[str, int] = ()  # type: ignore[assignment]


@dataclass(slots=True)
class CsvCorrections:
    """Applies corrections to accounts of files. :param directory: the spool."""

    connection: duckdb.DuckDBPyConnection
    query: CsvQuery
    directory: Path

    def applied(self, account: FileAccount, corrections: Sequence[Correction]) -> CorrectedFile:
        """:param corrections: the newest of each record; those of other files are left alone."""
        rejected = {reject.record_number for reject in account.rejects}
        own = {each.record_number: each for each in corrections if _is_of(each, account.file)}
        own = {number: own[number] for number in sorted(own) if number in rejected}
        if not own:
            return CorrectedFile(account)
        texts = {number: each.text for number, each in own.items() if each.text is not None}
        again = self._rejected_again(account, own, texts)
        fit = [number for number in texts if number not in again]
        spool, mended, filtered = self._mended(account, [texts[number] for number in fit])
        given_up = len(own) - len(texts)
        ledger = replace(
            account.ledger,
            written=account.ledger.written + (spool.rows if spool else 0),
            rejected=account.ledger.rejected - len(fit) - given_up,
            filtered=account.ledger.filtered + filtered + given_up,
        )
        left = [reject for reject in account.rejects if reject.record_number not in own]
        left += [reject for number in sorted(again) for reject in again[number]]
        return CorrectedFile(
            replace(account, ledger=ledger, rejects=left),
            spool,
            mended,
            tuple(_places(account.rejects, self.query, fit)),
            Counter(applied=len(fit), given_up=given_up, rejected=len(again)),
        )

    def _rejected_again(
        self, account: FileAccount, own: Mapping[int, Correction], texts: Mapping[int, str]
    ) -> dict[int, list[Reject]]:
        """Corrected records that do not fit either, each with what is wrong now, beside the text that was delivered."""
        lines = {number: text for number, text in texts.items() if "\n" not in text and "\r" not in text}
        try:
            found = self._findings(list(lines.values()))
            named = {number: found[place] for place, number in enumerate(lines, start=1) if place in found}
            singly = [number for number in texts if number not in lines]
        except DamagedFileError:
            # one of them swallows those behind it
            named, singly = {}, list(texts)
        for number in singly:
            try:
                findings = self._findings([texts[number]])
            except DamagedFileError as damage:
                findings = {1: [Reject(1, 1, "", "columns", str(damage).partition(": ")[2], texts[number])]}
            if findings:
                named[number] = findings[1]
        former = {reject.record_number: reject for reject in account.rejects}
        return {
            number: [
                replace(
                    reject,
                    record_number=number,
                    line_number=former[number].line_number,
                    detail=MARK.format(revision=own[number].revision) + reject.detail,
                    raw_text=former[number].raw_text,
                )
                for reject in rejects
            ]
            for number, rejects in named.items()
        }

    def _findings(self, texts: Sequence[str]) -> dict[int, list[Reject]]:
        """What is wrong with each text by its place, from 1.

        :raises DamagedFileError: they are not as many records as texts.
        """
        if not texts:
            return {}
        account = read_file(self.connection, self.query, self._file(texts), self.directory / "corrected.parquet")
        if account.ledger.read != len(texts):
            raise DamagedFileError(
                path=account.file.uri, damage=f"{len(texts)} corrected records read as {account.ledger.read}"
            )
        found: dict[int, list[Reject]] = {}
        for reject in account.rejects:
            found.setdefault(reject.record_number if len(texts) > 1 else 1, []).append(reject)
        return found

    def _mended(self, account: FileAccount, texts: Sequence[str]) -> tuple[SpooledFile | None, LandingFile | None, int]:
        """The rows of texts that all fit, the file they stand in, and how many the filters take away."""
        if not texts:
            return None, None, 0
        name = account.spool.path.stem
        file = self._file(texts, name=f"{name}-corrected.csv")
        mended = read_file(self.connection, self.query, file, self.directory / f"{name}-corrected.parquet")
        if mended.ledger.rejected or mended.ledger.read != len(texts):
            raise DamagedFileError(path=file.uri, damage="corrected records fit one by one and do not fit together")
        return mended.spool, file, mended.ledger.filtered

    def _file(self, texts: Sequence[str], *, name: str = "corrected.csv") -> LandingFile:
        path, dialect = self.directory / name, self.query.dialect
        header = [dialect.delimiter.join(self.query.names)] if dialect.header else []
        path.write_text("".join(f"{line}\n" for line in (*header, *texts)), encoding="utf-8", newline="")
        return open_landing_file(path, encoding="utf-8", directory=self.directory)


def _is_of(correction: Correction, file: LandingFile) -> bool:
    return correction.record[:2] == (file.uri.rpartition("/")[2], file.sha256)


def _places(rejects: Sequence[Reject], query: CsvQuery, numbers: Sequence[int]) -> list[float]:
    """Where records stand among those that have their columns, which alone the reader numbers."""
    misfits = {f"rule:{rule.id}" for rule in query.rules} | {"type", "required"}
    structural = sorted({reject.record_number for reject in rejects if reject.reason not in misfits})
    return [number - bisect_left(structural, number) - (0.5 if number in structural else 0.0) for number in numbers]
