"""What a table's newest commits say: the version, the fence, the cursor, and which event dates changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from spark_jobs.receipts import ATTEMPT_KEY, FENCE_KEY, RECEIPT_KEY, metadata_of

CURSOR = "source_version"
"""Key of a receipt's cursor: the version of the source table up to which all changes are in the target."""


@dataclass(frozen=True, slots=True)
class Fence:
    """Delta's application transaction that a commit takes: at most one commit can have a number or any below it."""

    app_id: str
    number: int


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
        return _event_dates(self.receipt)


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

    def fence(self) -> Fence:
        """The next number of the whole table: whoever commits first from here is the only one."""
        signed = self._newest_signed()
        return Fence("tallyclerk.fence", 1 + (int(signed.metadata[FENCE_KEY]) if signed else 0))

    def fence_of(self, load: str) -> Fence:
        """The transaction of one load, by which the provider's own loads are fenced too: the version it expects to write."""
        return Fence(load, self.version + 1)

    def cursor(self) -> int:
        """The version of the source that the table has taken in whole; -1 before the first."""
        signed = self._newest_signed()
        return int(signed.receipt.get("cursor", {}).get(CURSOR, -1)) if signed else -1

    def of_attempt(self, attempt: str) -> Commit | None:
        return next((commit for commit in self.commits if commit.metadata.get(ATTEMPT_KEY) == attempt), None)

    def newest_receipt(self, dataset: str, window: str) -> dict[str, Any]:
        """The newest receipt of one load, with its commit's version; empty when the newest commits have none."""
        for commit in self.commits:
            if (commit.receipt.get("dataset"), commit.receipt.get("window")) == (dataset, window):
                return {**commit.receipt, "version": commit.version}
        return {}

    def last_dates_of(self, dataset: str, window: str) -> set[date]:
        """The event dates of the window's newest load, as far as the newest commits tell."""
        return _event_dates(self.newest_receipt(dataset, window))

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


def commit_in(version: int, log_file: str) -> Commit:
    """What one file of a Delta log (a JSON action a line) says of its commit."""
    for line in log_file.splitlines():
        if line.startswith('{"commitInfo"'):
            info = json.loads(line)["commitInfo"]
            return Commit(version, metadata_of(info.get("userMetadata")), dict(info.get("operationMetrics") or {}))
    return Commit(version, {}, {})


def _event_dates(receipt: dict[str, Any]) -> set[date]:
    return {date.fromisoformat(day) for day in receipt.get("details", {}).get("event_dates", [])}
