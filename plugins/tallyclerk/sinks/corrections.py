"""Corrections of rejected records, beside the lake's zones: kept, and applied at each load of their window.

A correction that was appended to the data once would be lost when its window is loaded again (promise P2). So it is a row
here, and a part of what decides the window's rows, as the files are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tallyclerk.core.correction import AskedCorrection, Correction
from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import ConcurrentLoadError, SpecErrors
from tallyclerk.sinks.lake_table import COMMIT_ATTEMPTS, LakeTable, window_rows
from tallyclerk.sinks.quarantine import Quarantine, finding_of

if TYPE_CHECKING:
    import pyarrow as pa


@cache
def corrections_schema() -> pa.Schema:
    """One row per correction. ``reason`` and ``rejected_text`` tell what was corrected, when quarantine has forgotten it."""
    import pyarrow as pa

    return pa.schema(
        [
            ("dataset", pa.string()),
            ("window", pa.string()),
            ("revision", pa.int64()),
            ("source", pa.string()),
            ("sha256", pa.string()),
            ("record_number", pa.int64()),
            ("text", pa.string()),
            ("reason", pa.string()),
            ("rejected_text", pa.string()),
            ("note", pa.string()),
            ("corrected_by", pa.string()),
            ("corrected_at", pa.timestamp("us", tz="UTC")),
        ]
    )


class DecisionTable(LakeTable):
    """What people decided about rejected records. A table that grows; nothing is ever changed in it."""

    def rows(self, window: Window) -> list[dict[str, Any]]:
        """All decisions of a window in the table's schema, oldest first."""
        table = self.open()
        return [] if table is None else sorted(window_rows(table, window), key=lambda row: row["revision"])

    def add(
        self, window: Window, fresh: Callable[[list[dict[str, Any]]], list[dict[str, Any]]], *, by: str, note: str
    ) -> None:
        """Add rows in one commit.

        :param fresh: given the window's rows, those to add, each with a higher ``revision``; asked again when another commit was
            faster. Who decided, when and why is filled in here.
        :raises ConcurrentLoadError: others kept committing decisions of the window; retry.
        """
        load = load_name(self.dataset, window)
        conflict: Exception | None = None
        for _ in range(COMMIT_ATTEMPTS):
            table = self._open_or_create()
            added = fresh(window_rows(table, window))
            if not added:
                return
            common = {"window": window.key, "note": note, "corrected_by": by, "corrected_at": datetime.now(UTC)}
            with tempfile.TemporaryDirectory(prefix="tallyclerk-") as folder:
                file = self._spooled([row | common for row in added], Path(folder), window)
                signed = Receipt(
                    dataset=self.dataset, window=window.key, ledger=Ledger(read=len(added), written=len(added)),
                    location=self.uri, load_id=uuid4().hex,
                )  # fmt: skip
                staged = self._stage([file], signed)
            conflict = self._commit(table, staged, signed, app=load, replaces=None)
            if conflict is None:
                return
            self._unstage(staged)
        raise ConcurrentLoadError(load=load, cause=conflict)

    def _spooled(self, rows: list[dict[str, Any]], directory: Path, window: Window) -> SpooledFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = directory / "decisions.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=self._row_schema), path, compression="zstd")
        return SpooledFile(path, len(rows), window.day)


class Corrections(DecisionTable):
    """The corrections of one data set's files."""

    def __init__(self, uri: str, *, dataset: str) -> None:
        super().__init__(uri, dataset=f"{dataset}.corrections", schema=corrections_schema())
        self._of = dataset

    def of_window(self, window: Window) -> tuple[Correction, ...]:
        """The newest correction of each record, by revision; none where there is no table yet."""
        return tuple(sorted(self._newest_of(self.rows(window)).values(), key=lambda each: each.revision))

    def record(
        self, window: Window, asked: Sequence[AskedCorrection], quarantine: Quarantine, *, by: str, note: str
    ) -> tuple[Correction, ...]:
        """Keep what is not kept yet, all or nothing. The same correction again is none.

        :returns: the window's newest correction of each record, these included.
        :raises SpecErrors: a record is not in the window's quarantine, or it is not said of which file.
        :raises ConcurrentLoadError: others kept committing corrections of the window; retry.
        """
        rejects, receipt = quarantine.of_window(window)
        digests = {source["uri"]: source.get("sha256", "") for source in (receipt.sources if receipt else ())}

        def fresh(kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
            revision = max((row["revision"] for row in kept), default=0)
            return self._fresh(asked, rejects, digests, self._newest_of(kept), revision=revision)

        self.add(window, fresh, by=by, note=note)
        return self.of_window(window)

    def _fresh(
        self,
        asked: Sequence[AskedCorrection],
        rejects: Sequence[Mapping[str, Any]],
        digests: Mapping[str, str],
        known: Mapping[tuple[str, str, int], Correction],
        *,
        revision: int,
    ) -> list[dict[str, Any]]:
        """The rows to add, each with the reject that it corrects."""
        findings: list[str] = []
        fresh: dict[tuple[str, str, int], dict[str, Any]] = {}
        for each in asked:
            found = [row for row in rejects if each.is_of(row["source"], row["record_number"])]
            sources = sorted({row["source"] for row in found})
            if not found and _is_mended(each, known.values()):
                continue
            if len(sources) != 1 or not digests.get(sources[0]):
                findings.append(_finding(each, sources))
                continue
            correction = Correction(sources[0], digests[sources[0]], each.record_number, each.text, revision + 1)
            former = known.get(correction.record)
            if former is not None and former.text == each.text:
                continue
            revision += 1
            fresh[correction.record] = {
                "dataset": self._of,
                "source": correction.source, "sha256": correction.sha256, "record_number": correction.record_number,
                "text": each.text, "revision": revision,
                "reason": "; ".join(map(finding_of, found)),
                "rejected_text": found[0]["raw_text"],
            }  # fmt: skip
        if findings:
            raise SpecErrors(findings)
        return list(fresh.values())

    @staticmethod
    def _newest_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, int], Correction]:
        newest: dict[tuple[str, str, int], Correction] = {}
        for row in sorted(rows, key=lambda row: row["revision"]):
            found = Correction(row["source"], row["sha256"], row["record_number"], row["text"], row["revision"])
            newest[found.record] = found
        return newest


def _is_mended(asked: AskedCorrection, known: Iterable[Correction]) -> bool:
    """Whether the record is out of quarantine because this very correction is kept."""
    return any(asked.is_of(each.source, each.record_number) and each.text == asked.text for each in known)


def _finding(asked: AskedCorrection, sources: Sequence[str]) -> str:
    record = f"record {asked.record_number}" + (f" of {asked.source}" if asked.source else "")
    if len(sources) > 1:
        return f"{record} is rejected in {' and in '.join(sources)}; name the source"
    if sources:
        return f"{record}: {sources[0]} is no delivered file; mend its source and load the window again"
    return f"{record} is not in the window's quarantine; see `airflow tallyclerk quarantine list`"
