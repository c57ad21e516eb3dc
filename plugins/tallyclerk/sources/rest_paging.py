"""Where a reading stands, and how each of the four ways to page asks for what comes next.

Two kinds. **By index** (page, offset): rows are asked for by their place in the list, which shifts when rows are inserted or
deleted in front of it. So each request overlaps the rows already read by at least one: the last of them must stand where it
stood. A page number with a limit can only name multiples of the limit; a slightly smaller limit moves the multiples, and so
makes the overlap (:func:`aligned`). **By token** (cursor, link): the API itself keeps the place, and there is no overlap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from tallyclerk.contracts.model import RestDialect
from tallyclerk.exceptions import RepeatedPageError

Params = dict[str, str | int]
_LIMITS_TRIED = 50


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reading of the list has come: everything that the next request, or the next attempt, needs. Plain JSON.

    :param reading: which reading of the list this is, from 1.
    :param start: index of the next request's first row that was not read yet.
    :param token: cursor or link of the next request, "" for the first.
    :param anchor: key of the row before ``start``, "" where that is not known.
    :param back: how many times the reading has stepped back, since it last knew where it was.
    :param total: rows in the list, as the API last said.
    :param rows, keys, digest: of this reading so far: rows received, distinct keys, and their hashes combined by XOR.
    :param moved: a sign was seen that the list changed under this reading.
    :param previous: ``keys:digest`` of the reading before.
    :param page_digest: of the newest page's rows, for the loop guard.
    :param is_done: the readings agree; nothing is left to read.
    """

    reading: int = 1
    start: int = 0
    token: str = ""
    anchor: str = ""
    back: int = 0
    total: int | None = None
    rows: int = 0
    keys: int = 0
    digest: int = 0
    moved: bool = False
    previous: str = ""
    page_digest: str = ""
    is_done: bool = False

    @property
    def fingerprint(self) -> str:
        """What two readings that agree have in common."""
        return f"{self.keys}:{self.digest:x}"

    @property
    def is_begin(self) -> bool:
        """Whether the reading's next page is its first."""
        return not self.start and not self.token

    def again(self) -> Position:
        """The begin of the next reading."""
        return Position(reading=self.reading + 1, previous=self.fingerprint)

    def as_dict(self) -> dict[str, Any]:
        """Without what has its default; ``digest`` in hexadecimal, as it outgrows a double."""
        empty = asdict(Position())
        facts = {name: value for name, value in asdict(self).items() if value != empty[name]}
        return facts | ({"digest": f"{self.digest:x}"} if "digest" in facts else {})

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Position:
        known = {name: value for name, value in facts.items() if name in cls.__dataclass_fields__}
        return cls(**{**known, "digest": int(known.get("digest", "0"), 16)})


@dataclass(frozen=True, slots=True)
class PageRequest:
    """:param path: None for the endpoint. :param first: index of the first row asked for. :param limit: rows asked for."""

    params: Params
    first: int
    limit: int
    path: str | None = None

    @property
    def name(self) -> str:
        """What tells two requests of one reading apart."""
        return self.path or "&".join(f"{key}={value}" for key, value in self.params.items())


class Paginator(Protocol):
    """One way to page."""

    @property
    def by_index(self) -> bool:
        """Whether the place is an index that shifts with the list, so that requests overlap."""

    def request(self, position: Position, limit: int) -> PageRequest:
        """The request for what comes at a position."""

    def next_token(self, position: Position, envelope: Mapping[str, Any], next_link: str | None) -> str:
        """Cursor or link of the page behind this one; "" at the end, and always for paging by index.

        :raises RepeatedPageError: the API leads back to the page that it just gave.
        """


@dataclass(frozen=True, slots=True)
class OffsetPaging:
    dialect: RestDialect
    by_index: bool = True

    def request(self, position: Position, limit: int) -> PageRequest:
        first = max(0, position.start - 1) if position.anchor else position.start
        return PageRequest({self.dialect.offset: first, self.dialect.limit: limit}, first, limit)

    def next_token(self, position: Position, envelope: Mapping[str, Any], next_link: str | None) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class NumberPaging:
    dialect: RestDialect
    by_index: bool = True

    def request(self, position: Position, limit: int) -> PageRequest:
        number, size = aligned(position.start, limit, overlaps=bool(position.anchor))
        params: Params = {self.dialect.page: number + self.dialect.first_page, self.dialect.limit: size}
        return PageRequest(params, number * size, size)

    def next_token(self, position: Position, envelope: Mapping[str, Any], next_link: str | None) -> str:
        return ""


def aligned(start: int, limit: int, *, overlaps: bool) -> tuple[int, int]:
    """(page number from 0, limit) of a page that holds row ``start``, and also the row before it if it ``overlaps``.

    Of the limits a little below the largest, the one that brings the most rows from ``start`` on: at most a few per cent
    of a page are read again.
    """
    if not start:
        return 0, limit
    smallest = max(2 if overlaps else 1, limit - _LIMITS_TRIED)
    best, gained = (0, start + 1), 0
    for size in range(max(limit, smallest), smallest - 1, -1):
        before = start % size
        if size - before > gained and (before or not overlaps):
            best, gained = (start // size, size), size - before
    return best


@dataclass(frozen=True, slots=True)
class CursorPaging:
    dialect: RestDialect
    by_index: bool = False

    def request(self, position: Position, limit: int) -> PageRequest:
        return PageRequest({self.dialect.cursor: position.token, self.dialect.limit: limit}, position.rows, limit)

    def next_token(self, position: Position, envelope: Mapping[str, Any], next_link: str | None) -> str:
        value = find(envelope, self.dialect.next_cursor_key)
        token = "" if value is None else str(value)
        return _advanced(token, position)


@dataclass(frozen=True, slots=True)
class LinkPaging:
    dialect: RestDialect
    by_index: bool = False

    def request(self, position: Position, limit: int) -> PageRequest:
        if position.token:
            return PageRequest({}, position.rows, limit, path=position.token)
        return PageRequest({self.dialect.limit: limit}, 0, limit)

    def next_token(self, position: Position, envelope: Mapping[str, Any], next_link: str | None) -> str:
        return _advanced(next_link or "", position)


def _advanced(token: str, position: Position) -> str:
    if token and token == position.token:
        raise RepeatedPageError(what=f"the next page is {token!r} again", rows=position.rows)
    return token


PAGINATORS: dict[str, type[OffsetPaging] | type[NumberPaging] | type[CursorPaging] | type[LinkPaging]] = {
    "page": NumberPaging,
    "offset": OffsetPaging,
    "cursor": CursorPaging,
    "link": LinkPaging,
}


def find(envelope: Mapping[str, Any], path: str) -> Any:
    """The value under a key, or under keys joined by dots; None where there is none."""
    found: Any = envelope
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def stepped_back(position: Position, limit: int) -> Position:
    """The position to look for known rows from: ever further in front of where the last ones were."""
    start = max(0, position.start - limit * 2**position.back)
    return replace(position, start=start, anchor="", back=position.back + 1, moved=True)
