"""Pages of an API into a topic: which transaction holds which pages, and where an attempt goes on.

Once: a window's whole list, to the end. Continuous: poll after poll of a window that is not over yet, each from the newest
row's time less the contract's ``lookback``, so that a row that shows up late is still found.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.progress import Progress
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import (
    RecordError,
    SentRowsDeletedError,
    ServiceUnavailableError,
    TooManyRejectsError,
    TransientError,
)
from tallyclerk.sources.rest_pages import Page, RestPages
from tallyclerk.sources.rest_paging import Position
from tallyclerk.sources.rest_rows import Problem, raw_digest

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts import Contract
    from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink

log = logging.getLogger(__name__)

MAX_TRANSACTION_ROWS = 100_000
REJECTED_KEPT = 2_000
"""Digests of rejected records that a commit record carries, the newest: a record met again is not rejected again."""
_EXAMPLES_SHOWN = 5


@dataclass(slots=True)
class _Progress:
    """Where a load stands: what its newest transaction says, and what has come since.

    :param sent: ranges of the topic with this load's messages, of earlier attempts, each with the newest row's time.
    :param began: the topic's ends when this attempt began, None in a load's first attempt.
    :param watermark: time of the newest row of the last finished poll.
    :param newest: time of the newest row that this attempt has sent.
    """

    position: Position | None = None
    ledger: Ledger = field(default_factory=Ledger)
    sent: list[dict[str, Any]] = field(default_factory=list)
    began: dict[int, int] | None = None
    rejected: list[str] = field(default_factory=list)
    watermark: str = ""
    newest: str = ""
    requests: int = 0
    rows: list[pa.Table] = field(default_factory=list)
    problems: list[tuple[str, Problem]] = field(default_factory=list)
    pages: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, page: Page, newest: str) -> None:
        self.position, self.ledger, self.pages = page.position, self.ledger + page.ledger, self.pages + 1
        self.newest = max(self.newest, newest)
        if page.rows.num_rows:
            self.rows.append(page.rows)
        self.problems += [(page.url, problem) for problem in page.problems]
        digests = dict.fromkeys(raw_digest(problem.raw_text) for problem in page.problems)
        self.rejected = [*self.rejected, *digests][-REJECTED_KEPT:]
        for problem in page.problems[: _EXAMPLES_SHOWN - len(self.examples)]:
            self.examples.append(
                f"{page.url} record {problem.ordinal + 1}: {problem.column} {problem.reason}: {problem.detail}"
            )

    def clear(self) -> None:
        self.rows, self.problems, self.pages = [], [], 0

    @property
    def waiting_rows(self) -> int:
        return sum(rows.num_rows for rows in self.rows)


@dataclass(kw_only=True)
class RestLoad:
    """One window's load of an API into a topic.

    Guarantee: each key once, whatever moves or dies (:mod:`tallyclerk.sources.rest_pages`). Rows, rejects and the position
    behind them are committed in one transaction; the next attempt goes on at that position, with the keys that the topic says
    were sent. So an attempt that dies costs at most the pages of one transaction, ``pages_per_transaction``, again. When the
    API fails, what was read before is committed first, and nothing is asked for twice.

    :param sink: entered. :param client: settings of the Kafka client, for reading back what was sent.
    :param reload: send a complete window again. An incomplete one is finished in any case.
    :param fingerprint: of all that decides what is sent; an incomplete load under another one is sent anew.
    :param is_stopped: asked before each commit; when true nothing more is committed.
    """

    source: RestPages
    sink: KafkaTransactionSink
    client: Mapping[str, Any]
    contract: Contract
    window: Window
    load_id: str = ""
    fingerprint: str = ""
    pages_per_transaction: int = 1
    max_rejected_ratio: float = 0.1
    reload: bool = False
    is_stopped: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self.load = load_name(self.contract.dataset, self.window)
        self._started = time.monotonic()

    def run(self) -> Receipt:
        """Read the window's list to its end; the receipt, ``repeated`` when the window was complete already.

        :raises TooManyRejectsError, RecordError: the data does not fit; what was committed before stays.
        :raises TransientError: the API or Kafka is away, or the API moves; a retry goes on from here.
        """
        former = self.sink.progress(self.load)
        if former and former.details["complete"] and not self.reload:
            return former.as_repeated()
        progress, seen = self._resume(former)
        span = self.source.span(self.window.start, self.window.end)
        told = Progress(log, self.load, total=(progress.position.total if progress.position else None) or 0)
        for page in self._pages(progress, seen, span, start=progress.position):
            progress.add(page, "")
            told.add(page.ledger.written)
            if not page.position.is_done and progress.pages >= self.pages_per_transaction:
                self._commit(progress, complete=False)
        told.done()
        return self._commit(progress, complete=True)

    def poll(self, now: datetime) -> Receipt | None:
        """Send what is new at ``now``; None when nothing was ever sent yet. After the window's end the load is complete.

        :raises: as :meth:`run`.
        """
        former = self.sink.progress(self.load)
        if former and former.details["complete"] and not self.reload:
            return former.as_repeated()
        progress, seen = self._resume(former)
        is_last = now >= self.window.end
        span = self.source.span(self._since(progress), self.window.end)
        column = self.contract.incremental.column if self.contract.incremental else ""
        for page in self._pages(progress, seen, span, start=None):
            progress.add(page, _newest(page.rows, column))
            if progress.waiting_rows >= MAX_TRANSACTION_ROWS:
                self._commit(progress, complete=False)
        progress.watermark = max(progress.watermark, progress.newest)
        if not (is_last or progress.rows or progress.problems):
            return former
        return self._commit(progress, complete=is_last)

    def _since(self, progress: _Progress) -> datetime:
        if not progress.watermark:
            return self.window.start
        lookback = self.contract.incremental.lookback if self.contract.incremental else timedelta()
        return max(self.window.start, datetime.fromisoformat(progress.watermark) - lookback)

    def _pages(self, progress: _Progress, seen: set[str], span: Mapping[str, Any], *, start: Position | None) -> Any:
        """The source's pages; when it fails, what came before is committed."""
        try:
            yield from self.source.pages(seen, start, span)
        except TransientError:
            if progress.pages and not self.is_stopped():
                self._commit(progress, complete=False)
            raise

    def _resume(self, former: Receipt | None) -> tuple[_Progress, set[str]]:
        """The state to go on from, and the keys that are not to be sent again."""
        from tallyclerk.sinks.kafka_keys import sent_keys, topic_ends

        if former is None:
            return _Progress(), set()
        if former.details["complete"] or former.fingerprint != self.fingerprint:
            return self._anew()
        cursor = former.cursor
        progress = _Progress(
            position=Position.from_dict(cursor["position"]) if "position" in cursor else None,
            ledger=former.ledger,
            sent=[*cursor.get("sent", ()), _last_segment(former)],
            began=topic_ends(self.client, self.sink.topic),
            rejected=list(cursor.get("rejected", ())),
            watermark=cursor.get("watermark", ""),
            requests=former.details.get("requests", 0),
        )
        since = self._since(progress).isoformat()
        # a range whose newest row is older than what is asked for again tells nothing
        progress.sent = [part for part in progress.sent if not part.get("newest") or part["newest"] >= since]
        try:
            seen = sent_keys(self.client, (Offsets.from_dict(part["offsets"]) for part in progress.sent))
        except SentRowsDeletedError:
            if not self.reload:
                raise
            return self._anew()
        log.info("%s: goes on behind %s; %d keys are sent already", self.load, former.ledger, len(seen))
        return progress, seen | set(progress.rejected)

    def _anew(self) -> tuple[_Progress, set[str]]:
        log.info("%s: is sent anew from its first row", self.load)
        self.sink.restart(self.load)
        return _Progress(), set()

    def _commit(self, progress: _Progress, *, complete: bool) -> Receipt:
        if self.is_stopped():
            raise ServiceUnavailableError(service="The task", address=self.load, cause="it was stopped")
        self._check(progress, complete=complete)
        progress_facts = self._details(progress, complete=complete)
        receipt = Receipt(
            dataset=self.contract.dataset,
            window=self.window.key,
            ledger=progress.ledger.check(load=self.load),
            location=self.sink.location,
            load_id=self.load_id,
            contract_version=self.contract.version,
            fingerprint=self.fingerprint,
            sources=(self._source(progress),),
            cursor=_cursor(progress),
            details=progress_facts,
        )
        rows = _joined(progress.rows, self.source.schema)
        signed = self.sink.commit(rows, receipt, complete=complete, rejects=self._rejects(progress.problems))
        progress.clear()
        return signed

    def _check(self, progress: _Progress, *, complete: bool) -> None:
        """Refuse what the contract or ``max_rejected_ratio`` does not allow, before it is sent."""
        ledger = progress.ledger
        failing = {f"rule:{rule.id}" for rule in self.contract.row_rules if rule.on_violation == "fail"}
        expected = ledger.read if complete else max(ledger.read, (progress.position or Position()).total or 0)
        limit = ""
        if any(problem.reason in failing for _, problem in progress.problems):
            limit = "the contract says that a broken rule fails the load"
        elif ledger.rejected > self.max_rejected_ratio * expected and (complete or expected > ledger.read):
            limit = f"max_rejected_ratio allows {self.max_rejected_ratio:.2%}"
        if limit:
            raise TooManyRejectsError(
                rejected=ledger.rejected, read=ledger.read, limit=limit, examples=progress.examples
            )

    def _details(self, progress: _Progress, *, complete: bool) -> dict[str, Any]:
        details: dict[str, Any] = {
            "seconds": round(time.monotonic() - self._started, 3),
            "requests": progress.requests + self.source.client.requests,
            "readings": progress.position.reading if progress.position else 1,
        }
        if complete:
            warnings, unchecked = _row_count_rules(self.contract, progress.ledger.written)
            details |= {"warnings": warnings} if warnings else {}
            details |= {"unchecked_rules": unchecked} if unchecked else {}
        return details

    def _source(self, progress: _Progress) -> dict[str, Any]:
        facts: dict[str, Any] = {"uri": self.source.url, "records": progress.ledger.read}
        if progress.position and progress.position.total is not None:
            facts["total"] = progress.position.total
        return facts

    def _rejects(self, problems: list[tuple[str, Problem]]) -> pa.Table | None:
        if not problems:
            return None
        import pyarrow as pa

        from tallyclerk.sinks.quarantine import quarantine_schema

        common = {
            "dataset": self.contract.dataset,
            "window": self.window.key,
            "load_id": self.load_id,
            "contract_version": self.contract.version,
            "rejected_at": datetime.now(UTC),
        }
        records = [
            {
                **common,
                "source": url,
                "record_number": problem.ordinal + 1,
                "column": problem.column,
                "reason": problem.reason,
                "detail": problem.detail,
                "raw_text": problem.raw_text,
            }
            for url, problem in problems
        ]
        return pa.Table.from_pylist(records, schema=quarantine_schema())


def _last_segment(former: Receipt) -> dict[str, Any]:
    """What the newest attempt sent: the load's ranges from where the topic ended when it began."""
    offsets = Offsets.from_dict(former.details[OFFSETS_KEY])
    began = {int(partition): offset for partition, offset in former.cursor.get("began", {}).items()}
    ranges = {partition: (max(start, began.get(partition, 0)), end) for partition, start, end in offsets}
    kept = Offsets(offsets.topic, {partition: span for partition, span in ranges.items() if span[0] < span[1]})
    return {"offsets": kept.as_dict(), "newest": former.cursor.get("newest", "")}


def _cursor(progress: _Progress) -> dict[str, Any]:
    """What the next attempt needs, without what is empty."""
    facts: dict[str, Any] = {
        "position": progress.position.as_dict() if progress.position else None,
        "sent": progress.sent,
        "began": {str(partition): offset for partition, offset in (progress.began or {}).items()},
        "rejected": progress.rejected,
        "watermark": progress.watermark,
        "newest": progress.newest,
    }
    return {name: fact for name, fact in facts.items() if fact}


def _newest(rows: pa.Table, column: str) -> str:
    """The newest time in a column, as comparable text; "" when there is none."""
    import pyarrow.compute as pc

    if not column or not rows.num_rows:
        return ""
    newest = pc.max(rows.column(column)).as_py()
    return newest.isoformat() if newest is not None else ""


def _joined(tables: list[pa.Table], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.concat_tables(tables) if tables else schema.empty_table()


def _row_count_rules(contract: Contract, rows: int) -> tuple[list[str], list[str]]:
    """Warnings of the rules about the number of rows, and the names of the rules that no stream can check.

    :raises RecordError: a rule about the number of rows that fails the load.
    """
    import duckdb

    warnings, unchecked = [], []
    for rule in contract.table_rules:
        if rule.check == "duplicateValues":
            continue  # each key is sent once
        if rule.check != "rowCount":
            unchecked.append(rule.id)
            continue
        with duckdb.connect() as connection:
            broken = connection.execute(f"SELECT {rule.violation} FROM range({rows})").fetchone()  # noqa: S608
        if broken and broken[0] and rule.on_violation == "warn":
            warnings.append(f"{rule.id}: {rule.message} (measured {rows})")
        elif broken and broken[0]:
            raise RecordError(f"{rule.id}: {rule.message} (measured {rows}). The window stays incomplete.")
    return warnings, unchecked
