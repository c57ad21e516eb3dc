"""A paged REST API, read so that no key is lost or doubled while its rows move.

**What is promised.** Every key that is in the list from the first request to the last is yielded exactly once, however many
rows are inserted and deleted in between, as long as rows keep their order among themselves. A key that comes or goes in the
meantime is yielded at most once.

**How.** The keys already yielded are known (``seen``), so that a row may be met any number of times and is yielded once.
What remains is to notice what was skipped:

1. Paging by index overlaps by a row. If the last row read (the anchor) stands where it stood, nothing in front of it has
   shifted and the rows behind it are the next ones. If not, the list has moved; but if *any* row of the page was seen before,
   nothing was skipped either: the page begins at or in front of that row, and all that precedes it in the list's order was
   covered when it was read. If none was, rows in front were deleted and unread ones have slipped past: the reading steps
   back, twice as far each time, until it meets a row that it knows, or the begin.
2. A row that is inserted behind the reader's back is met by no page. It shows in ``total``. So a reading counts only if it was
   still: every anchor in its place, ``total`` the same in each answer, and as many distinct keys received as ``total`` says.
   After any other the list is read again, and only unknown keys are yielded, until a reading is still or two readings hold
   the same keys and ``total`` agrees. After ``max_readings`` of an attempt the source gives up (:class:`UnstableSourceError`).

Paging by cursor or link has no anchor, as the API keeps the place itself; there ``total`` and the number of keys decide. An API
without ``total`` is believed after one reading without a sign of movement; ``verify=True`` wants two that agree, of any API.

**Loop guard.** The same cursor, or the same rows for two different requests of a reading, is :class:`RepeatedPageError`.

**Where it may resume.** Each page carries the :class:`~tallyclerk.sources.rest_paging.Position` behind it. A new attempt that
starts there, with the keys yielded so far, asks for no page twice. Memory: one page, and about 100 bytes a key.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.model import Contract, RestDialect
from tallyclerk.core.ledger import Ledger
from tallyclerk.exceptions import RecordError, RepeatedPageError, SpecError, UnstableSourceError
from tallyclerk.sources.rest_client import Answer, DamagedAnswerError, RestClient
from tallyclerk.sources.rest_paging import PAGINATORS, PageRequest, Paginator, Position, find, stepped_back
from tallyclerk.sources.rest_rows import PageRows, Problem, RowReader, raw_digest

if TYPE_CHECKING:
    import msgspec
    import pyarrow as pa

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """What one request brought that is new.

    :param rows: in the contract's schema; keys never yielded before.
    :param problems: of records that do not fit, never yielded before.
    :param ledger: of the records beyond the overlap; ``read`` is what the API has sent for the first time in this reading.
    :param position: behind this page: from where the next attempt goes on.
    :param url: the request, without the key.
    """

    rows: pa.Table
    problems: tuple[Problem, ...]
    ledger: Ledger
    position: Position
    url: str


@dataclass(slots=True)
class _Reading:
    """What is known of the reading under way, beside its position: its distinct keys, and which request brought which rows.

    :param last: the reading after which this attempt gives up; a later attempt has as many of its own.
    :ivar failure: why it gives up behind the page that was just read, "" while it does not.
    """

    last: int
    keys: set[str] = field(default_factory=set)
    pages: dict[str, str] = field(default_factory=dict)
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _Received:
    """An answer, decoded."""

    records: PageRows
    identities: list[str]
    total: int | None
    next_token: str
    page_digest: str
    url: str


@dataclass(kw_only=True)
class RestPages:
    """The pages of one endpoint.

    :param key: columns that tell a row, whose text is the message's key; the contract's primary key when empty.
    :param dialect: the contract's own when None.
    :param page_size: rows asked for; the dialect's when 0. What the API sends must not be less, unless the list ends.
    :param params: more parameters, sent with each request.
    :param verify: want two readings that agree even when the first was still.
    :raises SpecError: the contract has no ``rest`` property, or no key.
    """

    client: RestClient
    endpoint: str
    contract: Contract
    key: tuple[str, ...] = ()
    dialect: RestDialect | None = None
    page_size: int = 0
    params: Mapping[str, str | int] = field(default_factory=dict)
    verify: bool = False
    max_readings: int = 5

    def __post_init__(self) -> None:
        if (dialect := self.dialect or self.contract.rest) is None:
            raise SpecError(f"{self.contract.path}: has no server with the customProperty `rest`; add it.")
        self._dialect: RestDialect = dialect
        self.key = self.key or self.contract.primary_key
        if not self.key:
            raise SpecError(f"{self.contract.path}: has no primaryKey, by which a row that comes twice would be known.")
        self._paginator: Paginator = PAGINATORS[dialect.paging](dialect)
        self._reader = RowReader(self.contract)
        self._limit = self.page_size or dialect.page_size

    @property
    def schema(self) -> pa.Schema:
        """Of the pages' rows: the contract's, derived columns included."""
        return self._reader.schema

    @property
    def url(self) -> str:
        """The endpoint, without parameters."""
        return self.client.address(self.endpoint)

    def span(self, since: datetime | None, until: datetime | None) -> dict[str, str | int]:
        """The parameters of a half-open span of time, as far as the API has any (UTC, ISO 8601)."""
        named = ((self._dialect.since, since), (self._dialect.until, until))
        return {name: instant.isoformat() for name, instant in named if name and instant}

    def pages(
        self, seen: set[str], start: Position | None = None, params: Mapping[str, str | int] | None = None
    ) -> Iterator[Page]:
        """The pages from a position on, until the readings agree. The last one's position ``is_done``.

        :param seen: the keys already yielded and the digests of records already rejected; grows with what is yielded.
        :param start: an earlier page's position; None begins.
        :param params: of this reading, beside the source's own.
        :raises UnstableSourceError, RepeatedPageError: see above. What was yielded before is right.
        :raises RecordError: an answer is not what the contract's ``rest`` property says.
        :raises ServiceUnavailableError, SpecError: as :meth:`RestClient.get`.
        """
        position = start or Position()
        last = position.reading + self.max_readings - 1
        reading = _Reading(last, set(seen) if start and start.reading == 1 else set())
        if start and start.page_digest:
            reading.pages[start.page_digest] = "before"
        if start and start.reading > 1 and not start.is_begin:
            # which keys this reading has met died with the attempt: it cannot be the one that counts
            position = replace(position, moved=True)
        while not position.is_done:
            page = self._next(position, reading, seen, {**self.params, **(params or {})})
            yield page
            if reading.failure:
                raise UnstableSourceError(url=page.url, what=reading.failure)
            if page.position.reading != position.reading:
                reading = _Reading(last)
            position = page.position

    def _next(self, position: Position, reading: _Reading, seen: set[str], params: Mapping[str, Any]) -> Page:
        """The next page that continues what was read, stepping back as far as needed."""
        while True:
            request = self._paginator.request(position, self._limit)
            received = self._receive(request, position, params)
            self._guard(request, received, reading)
            overlap = self._overlap(position, request, received)
            is_next = not self._paginator.by_index or not request.first or overlap > 0
            # a later reading may skip what an earlier one has yielded
            known = reading.keys if position.reading == 1 else seen
            if is_next or any(identity in known for identity in received.identities):
                return self._page(position, request, received, reading, seen, overlap)
            log.warning("%s: rows slipped past while it was read; stepping back", received.url)
            position = stepped_back(position, self._limit)

    def _receive(self, request: PageRequest, position: Position, params: Mapping[str, Any]) -> _Received:
        # a link holds all of its parameters already
        asked = request.params if request.path else {**params, **request.params}
        return self.client.get(request.path or self.endpoint, asked, lambda answer: self._parse(answer, position))

    def _parse(self, answer: Answer, position: Position) -> _Received:
        """:raises DamagedAnswerError: the body is no whole JSON."""
        import msgspec

        try:
            envelope, data = self._envelope(answer)
            records = self._reader.read(data)
        except msgspec.ValidationError as error:
            raise RecordError(
                f"{answer.url}: the answer is not what the contract's `rest` property says ({error})."
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DamagedAnswerError(f"the body of {len(answer.body):,} bytes is no whole JSON ({error})") from error
        total = find(envelope, self._dialect.total_key) if self._dialect.total_key else None
        if self._dialect.total_key and (not isinstance(total, int) or isinstance(total, bool)):
            raise RecordError(
                f"{answer.url}: the answer has no number under {self._dialect.total_key!r}, the contract's totalKey."
            )
        token = self._paginator.next_token(position, envelope, answer.next_link)
        # with the total: as many rows inserted in front as a page holds bring the same rows again, which is no circle
        digest = hashlib.blake2b(data, key=str(total).encode(), digest_size=12).hexdigest() if records.count else ""
        return _Received(records, self._identities(records), total, token, digest, answer.url)

    def _envelope(self, answer: Answer) -> tuple[Mapping[str, Any], msgspec.Raw | bytes]:
        """The answer without its rows, and its rows as JSON text. ``$`` means that the answer is nothing but rows."""
        import msgspec

        if self._dialect.data_key == "$":
            return {}, answer.body
        raw: Any = msgspec.Raw(answer.body)
        *parents, last = self._dialect.data_key.split(".")
        envelope: dict[str, Any] = {}
        for key in [*parents, last]:
            level = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            if key not in level:
                raise RecordError(
                    f"{answer.url}: the answer has no key {key!r} (it has {', '.join(level) or 'none'}); "
                    "correct the contract's dataKey."
                )
            raw = level.pop(key)
            if not envelope:
                envelope = {name: msgspec.json.decode(value) for name, value in level.items()}
        return envelope, raw

    def _identities(self, records: PageRows) -> list[str]:
        """Key of each record that fits, digest of each that does not, in the page's order."""
        from tallyclerk.sinks.kafka_encoding import key_texts

        found = [""] * records.count
        for problem in records.problems:
            found[problem.ordinal] = raw_digest(problem.raw_text)
        if records.rows.num_rows:
            (batch,) = records.rows.combine_chunks().to_batches()
            for ordinal, text in zip(records.ordinals, key_texts(batch, self.key).to_pylist(), strict=True):
                found[ordinal] = text
        return found

    def _guard(self, request: PageRequest, received: _Received, reading: _Reading) -> None:
        former = reading.pages.setdefault(received.page_digest, request.name) if received.page_digest else request.name
        if former != request.name:
            raise RepeatedPageError(
                what=f"{received.url} brings the rows of the page {former} again", rows=request.first
            )
        if received.next_token and received.next_token in reading.pages:
            raise RepeatedPageError(what=f"the next page is {received.next_token!r} again", rows=request.first)
        if received.next_token:
            reading.pages[received.next_token] = "a token"

    def _overlap(self, position: Position, request: PageRequest, received: _Received) -> int:
        """Records at the page's begin that were read before and stand where they stood; 0 where they do not."""
        count = position.start - request.first
        if not self._paginator.by_index or not position.anchor or not 0 < count <= len(received.identities):
            return 0
        return count if received.identities[count - 1] == position.anchor else 0

    def _page(
        self,
        position: Position,
        request: PageRequest,
        received: _Received,
        reading: _Reading,
        seen: set[str],
        overlap: int,
    ) -> Page:
        """What is new of a page that continues what was read."""
        records, new = received.records, set()
        for ordinal, identity in enumerate(received.identities[overlap:], overlap):
            if identity not in seen:
                seen.add(identity)
                new.add(ordinal)
        following = self._following(position, request, received, reading, overlap)
        rows = _taken(records.rows, [ordinal in new for ordinal in records.ordinals])
        read = records.count - overlap
        ledger = Ledger(
            read=read,
            written=rows.num_rows,
            rejected=len(new) - rows.num_rows,
            deduplicated=read - len(new),
        )
        problems = tuple(problem for problem in records.problems if problem.ordinal in new)
        return Page(rows, problems, ledger, following, received.url)

    def _following(
        self, position: Position, request: PageRequest, received: _Received, reading: _Reading, overlap: int
    ) -> Position:
        """The position behind a page; at the list's end, that of the next reading, or one that is done."""
        count, total = received.records.count, received.total
        keys, digest = position.keys, position.digest
        for key in received.identities[overlap:]:
            if key not in reading.keys:
                reading.keys.add(key)
                keys += 1
                digest ^= int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")
        by_index = self._paginator.by_index
        anchored = not by_index or overlap > 0 or position.is_begin
        position = replace(
            position,
            start=request.first + count,
            token=received.next_token,
            anchor=received.identities[-1] if by_index and count else "",
            back=0,
            total=total,
            rows=position.rows + count - overlap,
            keys=keys,
            digest=digest,
            moved=position.moved or not anchored or position.total not in (None, total),
            page_digest=received.page_digest or position.page_digest,
        )
        if not self._is_end(request, received, overlap):
            return position
        return self._judged(position, reading, received.url)

    def _is_end(self, request: PageRequest, received: _Received, overlap: int) -> bool:
        if not self._paginator.by_index:
            return not received.next_token
        count, end = received.records.count, request.first + received.records.count
        if received.total is None:
            # a short page is no proof: the API may cap its pages
            return count <= overlap
        if end >= received.total or count <= overlap:
            return True
        if not request.first and count < request.limit and self._dialect.paging == "page":
            raise SpecError(
                f"{received.url}: {request.limit:,} rows were asked for and {count:,} of {received.total:,} came: the API "
                f"caps its pages. Set page_size to {count}."
            )
        return False

    def _judged(self, position: Position, reading: _Reading, url: str) -> Position:
        """A reading that has ended: believed, or followed by another, of this attempt or of the next."""
        total, agrees = position.total, position.fingerprint == position.previous
        if (total is None or position.keys == total) and (agrees or not (position.moved or self.verify)):
            return replace(position, is_done=True)
        if agrees and not position.moved and position.rows == total:
            # rows that the API lists twice, in both readings, are its own
            return replace(position, is_done=True)
        of = "" if total is None else f" of {total:,}"
        if agrees and not position.moved:
            reading.failure = (
                f"two readings hold the same {position.keys:,} keys, and the API says that it has {total:,}"
            )
        elif position.reading >= reading.last:
            reading.failure = f"{self.max_readings} readings all differ (the last one has {position.keys:,}{of} keys)"
        else:
            log.warning("%s: reading %d was not still (%d%s keys)", url, position.reading, position.keys, of)
        return position.again()


def _taken(rows: pa.Table, wanted: list[bool]) -> pa.Table:
    """The wanted rows, as slices: they are nearly always all, or all behind an overlap."""
    import pyarrow as pa

    parts, start = [], 0
    for is_wanted, group in groupby(wanted):
        count = len(list(group))
        if is_wanted:
            parts.append(rows.slice(start, count))
        start += count
    return pa.concat_tables(parts) if parts else rows.slice(0, 0)
