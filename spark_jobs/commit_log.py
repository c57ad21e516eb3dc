"""What a table's newest commits say: the version, the fence, the cursor, and which event dates changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from spark_jobs.receipts import ATTEMPT_KEY, FENCE_KEY, RECEIPT_KEY

CURSOR = "source_version"
"""Key of a receipt's cursor: the version of the source table up to which all changes are in the target."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One version of a table; ``metadata`` is empty for commits of other programs (compaction, for instance)."""

    version: int
    metadata: dict[str, Any]
    metrics: dict[str, str]

    @property
    def receipt(self) -> dict[str, Any]:
        stored = self.metadata.get(RECEIPT_KEY)
        return stored if isinstance(stored, dict) else {}

    def event_dates(self) -> set[date]:
        return {date.fromisoformat(day) for day in self.receipt.get("details", {}).get("event_dates", [])}


@dataclass(frozen=True, slots=True)
class CommitLog:
    """The commits of one table, newest first.

    :param commits: the newest ones.
    :param older: fetches the newest ``n``, when those are not enough.
    """

    commits: Sequence[Commit]
    older: Callable[[int], Sequence[Commit]]

    @property
    def version(self) -> int:
        return self.commits[0].version

    def fence(self) -> int:
        """The highest fence number that a commit has taken; 0 before the first."""
        signed = self._newest_signed()
        return int(signed.metadata[FENCE_KEY]) if signed else 0

    def cursor(self) -> int:
        """The version of the source that the table has taken in whole; -1 before the first."""
        signed = self._newest_signed()
        return int(signed.receipt.get("cursor", {}).get(CURSOR, -1)) if signed else -1

    def of_attempt(self, attempt: str) -> Commit | None:
        return next((commit for commit in self.commits if commit.metadata.get(ATTEMPT_KEY) == attempt), None)

    def last_dates_of(self, dataset: str, window: str) -> set[date]:
        """The event dates of the window's newest load, as far as the newest commits tell."""
        for commit in self.commits:
            if (commit.receipt.get("dataset"), commit.receipt.get("window")) == (dataset, window):
                return commit.event_dates()
        return set()

    def dates_changed_since(self, version: int) -> set[date]:
        """Event dates of every commit after ``version``; of all commits when the table is younger than that."""
        since = version if version <= self.version else -1
        dates: set[date] = set()
        for commit in self._reaching_back_to(since):
            if commit.version > since:
                dates |= commit.event_dates()
        return dates

    def _newest_signed(self) -> Commit | None:
        for commits in (self.commits, self._everything()):
            for commit in commits:
                if FENCE_KEY in commit.metadata:
                    return commit
        return None

    def _reaching_back_to(self, version: int) -> Sequence[Commit]:
        if self.commits[-1].version <= version + 1:
            return self.commits
        return self.older(self.version - version)

    def _everything(self) -> Iterator[Commit]:
        if self.commits[-1].version > 0:
            yield from self.older(self.version + 1)
