"""The reader of paged APIs against lists that move at every request."""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyclerk.contracts import Contract, load_contract
from tallyclerk.exceptions import RecordError, RepeatedPageError, SpecError, UnstableSourceError
from tallyclerk.sources.rest_client import Answer, RestClient
from tallyclerk.sources.rest_pages import Page, RestPages
from tallyclerk.sources.rest_paging import Position, aligned

ITEMS = """\
apiVersion: v3.1.0
kind: DataContract
id: items
name: items
version: 1.0.0
status: active
servers:
  - server: api
    type: api
    location: http://api/items
    customProperties:
      - property: rest
        value: {dataKey: data, totalKey: total}
schema:
  - name: items
    customProperties:
      - property: kafka
        value: {topic: items, key: [id]}
    properties:
      - {name: id, logicalType: integer, physicalType: int, required: true, primaryKey: true}
"""
EXAMPLES = int(os.environ.get("TALLYCLERK_TEST_EXAMPLES", "25"))
"""Lists that move, by chance; more find more."""
STYLES = ("page", "offset", "cursor", "link")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    path = tmp_path_factory.mktemp("contract") / "items.odcs.yaml"
    path.write_text(ITEMS)
    return load_contract(path)


@dataclass
class MovingApi(RestClient):
    """An API over a list of whole numbers; ``moves`` are done before the request of that number, from 1.

    Cursors and links hold the last number given, as those of a good API do.
    """

    base_url: str = "http://api"
    rows: list[int] = field(default_factory=list)
    moves: Mapping[int, Callable[[list[int]], None]] = field(default_factory=dict)
    states_total: bool = True
    extra_total: int = 0
    log: list[str] = field(default_factory=list)

    def get(self, path: str, params: Mapping[str, str | int], parse: Callable[[Answer], Any]) -> Any:
        self.log.append(f"{path} {sorted(params.items())}")
        self.moves.get(len(self.log), lambda rows: None)(self.rows)
        limit, after = int(params.get("limit", 0)), params.get("cursor")
        if "after=" in path:
            limit, after = int(path.split("limit=")[1].split("&")[0]), path.split("after=")[1]
        if "page" in params:
            first = (int(params["page"]) - 1) * limit
        elif "offset" in params:
            first = int(params["offset"])
        else:
            first = sum(row <= int(base64.b64decode(after)) for row in self.rows) if after else 0
        part = self.rows[first : first + limit]
        more = first + limit < len(self.rows)
        token = base64.b64encode(str(part[-1]).encode()).decode() if part and more else None
        answer: dict[str, Any] = {"data": [{"id": row} for row in part], "next_cursor": token}
        if self.states_total:
            answer["total"] = len(self.rows) + self.extra_total
        link = token and f"http://api/items?limit={limit}&after={token}"
        return parse(Answer(f"http://api{path}", json.dumps(answer).encode(), link))


def source(api: MovingApi, contract: Contract, style: str, page_size: int = 10, **options: Any) -> RestPages:
    assert contract.rest
    dialect = replace(contract.rest, paging=style, total_key="total" if api.states_total else None)
    return RestPages(client=api, endpoint="/items", contract=contract, dialect=dialect, page_size=page_size, **options)


def ids(pages: list[Page]) -> list[int]:
    return [row for page in pages for row in page.rows.column("id").to_pylist()]


def requests_of_one_reading(rows: int, page_size: int) -> int:
    """Pages of so few rows overlap by up to a third."""
    return -(-rows * 3 // (page_size * 2)) + 1


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("rows", [0, 1, 9, 10, 11, 97, 100])
def test_each_row_is_read_once_in_one_reading_when_the_list_stands_still(
    items: Contract, style: str, rows: int
) -> None:
    api = MovingApi(rows=list(range(rows)))
    pages = list(source(api, items, style).pages(set()))
    assert ids(pages) == list(range(rows))
    assert sum(page.ledger.read for page in pages) == rows
    assert pages[-1].position.is_done
    assert pages[-1].position.reading == 1
    assert len(api.log) <= requests_of_one_reading(rows, 10)


@pytest.mark.parametrize("style", STYLES)
def test_each_row_is_read_once_when_the_api_states_no_total(items: Contract, style: str) -> None:
    api = MovingApi(rows=list(range(60)), states_total=False)
    assert ids(list(source(api, items, style).pages(set()))) == list(range(60))


Move = tuple[int, int, int]  # before which request, where (thousandths of the list), +rows inserted or -rows deleted


def mover(number: int, changes: list[Move], standing: set[int]) -> Callable[[list[int]], None]:
    """Inserts and deletes of one moment; rows of ``standing`` are never deleted, order by number is kept."""

    def move(rows: list[int]) -> None:
        for _, where, count in changes:
            at = where * len(rows) // 1000
            if count > 0:
                before = rows[at - 1] if at else 0
                after = rows[at] if at < len(rows) else before + 10_000
                fresh = random.Random(number).sample(range(before + 1, after), min(count, after - before - 1))
                rows[at:at] = sorted(fresh)
            else:
                rows[:] = [row for index, row in enumerate(rows) if row in standing or not at <= index < at - count]

    return move


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    style=st.sampled_from(STYLES),
    size=st.integers(0, 120),
    standing_share=st.floats(0, 1),
    moves=st.lists(st.tuples(st.integers(1, 25), st.integers(0, 1000), st.integers(-30, 30)), max_size=12),
    seed=st.integers(0, 10_000),
)
def test_no_key_is_missing_or_doubled_when_rows_come_and_go_between_requests(
    items: Contract, style: str, size: int, standing_share: float, moves: list[Move], seed: int
) -> None:
    rows = [1000 * number for number in range(1, size + 1)]
    standing = {row for row in rows if random.Random(seed + row).random() < standing_share}
    by_request: dict[int, list[Move]] = {}
    for move in moves:
        by_request.setdefault(move[0], []).append(move)
    api = MovingApi(rows=rows, moves={n: mover(seed, changes, standing) for n, changes in by_request.items()})
    pages: list[Page] = []
    for page in source(api, items, style, max_readings=30).pages(set()):
        pages.append(page)
    found = ids(pages)
    assert len(found) == len(set(found))
    assert standing <= set(found)
    # the movement stops after 25 requests; what is there when the source is content was all read
    if len(api.log) > 25 or not moves:
        assert set(api.rows) <= set(found)
    for page in pages:
        page.ledger.check(load="page")


@pytest.mark.parametrize("style", STYLES)
def test_a_row_inserted_behind_the_reader_is_read_when_only_the_total_tells(items: Contract, style: str) -> None:
    api = MovingApi(rows=list(range(10, 60)), moves={3: lambda rows: rows.insert(0, 1)})
    pages = list(source(api, items, style).pages(set()))
    assert sorted(ids(pages)) == [1, *range(10, 60)]
    assert pages[-1].position.reading == 2


@pytest.mark.parametrize("style", ["page", "offset"])
def test_a_row_that_slips_past_is_read_when_a_delete_and_an_insert_leave_the_total(items: Contract, style: str) -> None:
    def swap(rows: list[int]) -> None:
        del rows[0]
        rows.append(100)

    api = MovingApi(rows=list(range(50)), moves={3: swap})
    assert set(range(50)) <= set(ids(list(source(api, items, style).pages(set()))))


@pytest.mark.parametrize("style", STYLES)
def test_the_source_gives_up_when_the_list_never_stands_still(items: Contract, style: str) -> None:
    number = iter(range(1000, 10_000))
    api = MovingApi(rows=list(range(50)), moves={n: lambda rows: rows.append(next(number)) for n in range(1, 500)})
    with pytest.raises(UnstableSourceError, match="3 readings all differ"):
        list(source(api, items, style, max_readings=3).pages(set()))


@pytest.mark.parametrize("style", STYLES)
def test_the_next_attempt_completes_the_list_when_it_has_come_to_rest(items: Contract, style: str) -> None:
    number = iter(range(1000, 10_000))
    api = MovingApi(rows=list(range(50)), moves={n: lambda rows: rows.append(next(number)) for n in range(1, 500)})
    seen: set[str] = set()
    pages: list[Page] = []
    with pytest.raises(UnstableSourceError):
        pages.extend(source(api, items, style, max_readings=2).pages(seen))
    api.moves = {}
    pages += source(api, items, style, max_readings=2).pages(seen, pages[-1].position)
    assert sorted(ids(pages)) == api.rows


@pytest.mark.parametrize("style", STYLES)
def test_the_source_fails_when_the_total_promises_rows_that_never_come(items: Contract, style: str) -> None:
    api = MovingApi(rows=list(range(35)), extra_total=2)
    with pytest.raises(UnstableSourceError, match="same 35 keys, and the API says that it has 37"):
        list(source(api, items, style).pages(set()))


@pytest.mark.parametrize("style", STYLES)
def test_a_row_that_the_api_lists_twice_is_read_once_when_two_readings_agree(items: Contract, style: str) -> None:
    api = MovingApi(rows=sorted([*range(30), 7]))
    pages = list(source(api, items, style).pages(set()))
    assert ids(pages) == list(range(30))
    assert sum(page.ledger.deduplicated for page in pages) == 1 + 31


@pytest.mark.parametrize("style", STYLES)
def test_the_list_is_read_twice_when_asked_to_verify(items: Contract, style: str) -> None:
    pages = list(source(MovingApi(rows=list(range(25))), items, style, verify=True).pages(set()))
    assert ids(pages) == list(range(25))
    assert pages[-1].position.reading == 2


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("after", [1, 3])
def test_no_page_is_asked_for_twice_when_a_reading_is_resumed(items: Contract, style: str, after: int) -> None:
    api = MovingApi(rows=list(range(60)))
    seen: set[str] = set()
    pages = source(api, items, style).pages(seen)
    first = [next(pages) for _ in range(after)]
    position = Position.from_dict(json.loads(json.dumps(first[-1].position.as_dict())))
    assert position == first[-1].position
    rest = list(source(api, items, style).pages({str(row) for row in ids(first)}, position))
    assert ids(first) + ids(rest) == list(range(60))
    assert rest[-1].position.reading == 1
    assert len(api.log) == len(set(api.log))


@pytest.mark.parametrize("style", ["page", "offset"])
def test_the_loop_guard_speaks_when_the_api_ignores_the_page(items: Contract, style: str) -> None:
    class Deaf(MovingApi):
        def get(self, path: str, params: Mapping[str, str | int], parse: Callable[[Answer], Any]) -> Any:
            return super().get(path, {**params, "page": 1, "limit": 10}, parse)

    with pytest.raises(RepeatedPageError, match="brings the rows of the page"):
        list(source(Deaf(rows=list(range(30))), items, style).pages(set()))


def test_the_loop_guard_speaks_when_a_cursor_comes_again(items: Contract) -> None:
    class Circling(MovingApi):
        def get(self, path: str, params: Mapping[str, str | int], parse: Callable[[Answer], Any]) -> Any:
            number = len(self.log) + 1
            body = {"data": [{"id": number}], "total": 9, "next_cursor": f"c{number % 3}"}
            self.log.append("")
            return parse(Answer("http://api/items", json.dumps(body).encode()))

    api = Circling()
    with pytest.raises(RepeatedPageError, match="'c1' again"):
        list(source(api, items, "cursor").pages(set()))
    assert len(api.log) == 4


def test_a_capped_page_is_refused_when_page_numbers_would_skip_rows(items: Contract) -> None:
    class Capping(MovingApi):
        def get(self, path: str, params: Mapping[str, str | int], parse: Callable[[Answer], Any]) -> Any:
            return super().get(path, {**params, "limit": min(5, int(params["limit"]))}, parse)

    with pytest.raises(SpecError, match="Set page_size to 5"):
        list(source(Capping(rows=list(range(30))), items, "page").pages(set()))
    # an offset goes on from what came
    assert ids(list(source(Capping(rows=list(range(30))), items, "offset").pages(set()))) == list(range(30))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"rows": []}, "has no key 'data' .it has rows.; correct the contract's dataKey"),
        ({"data": []}, "no number under 'total'"),
        ({"data": {}, "total": 0}, "is not what the contract's `rest` property says"),
        ([], "is not what the contract's `rest` property says"),
    ],
)
def test_an_answer_is_refused_when_it_is_not_the_contracts(items: Contract, body: Any, message: str) -> None:
    class Odd(MovingApi):
        def get(self, path: str, params: Mapping[str, str | int], parse: Callable[[Answer], Any]) -> Any:
            return parse(Answer("http://api/items", json.dumps(body).encode()))

    with pytest.raises(RecordError, match=message):
        list(source(Odd(), items, "page").pages(set()))


@given(start=st.integers(1, 200_000), limit=st.integers(60, 1000), overlaps=st.booleans())
def test_a_page_number_is_found_that_overlaps_and_loses_little(start: int, limit: int, overlaps: bool) -> None:
    number, size = aligned(start, limit, overlaps=overlaps)
    first = number * size
    assert size <= limit
    assert first <= start - (1 if overlaps else 0)
    assert start < first + size


def test_pages_bring_mostly_new_rows_when_they_overlap() -> None:
    start = requests = 0
    while start < 92_331:
        number, size = aligned(start, 1000, overlaps=start > 0)
        start, requests = (number + 1) * size, requests + 1
    assert requests <= 98  # of 93 that the rows fill
