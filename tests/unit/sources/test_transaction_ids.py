"""Distances between transactions on the circle of 32-bit ids."""

from __future__ import annotations

import numpy as np
import pytest

from tallyclerk.exceptions import TransientError
from tallyclerk.sources import transaction_ids
from tallyclerk.sources.transaction_ids import TransactionSpan, pack_ids, unpack_ids

ROUND = 2**32


def test_the_bounds_are_read_when_others_are_open() -> None:
    assert TransactionSpan.of("4294967300:4294967400:4294967300,4294967350") == TransactionSpan(ROUND + 4, ROUND + 104)
    assert TransactionSpan.of("100:100:") == TransactionSpan(100, 100)


@pytest.mark.parametrize(
    ("end", "xmin", "full"),
    [
        (1_000, 999, 999),
        (1_000, 3, 3),
        (ROUND + 10, 4_294_967_290, ROUND - 6),  # written before the ids came round
        (ROUND + 10, 5, ROUND + 5),
        (5 * ROUND + 2**31, 2**31 - 1, 5 * ROUND + 2**31 - 1),
        (5 * ROUND + 7, 2, 0),  # frozen as PostgreSQL did it before 9.4
        (5 * ROUND + 7, 1, 0),
        (1_000, 1_003, 1_003),  # COPY FREEZE shows rows of a transaction that came after the snapshot
    ],
)
def test_an_id_is_made_full_by_its_distance_from_the_snapshots_end(end: int, xmin: int, full: int) -> None:
    assert TransactionSpan(end - 1, end).full_ids(np.array([xmin])).tolist() == [full]


def test_every_id_of_the_last_two_billion_keeps_its_order_when_the_circle_has_come_round() -> None:
    end = 3 * ROUND + 17
    full = np.arange(end - 2_000_000_000, end, 9_999_991)
    assert TransactionSpan(end, end).full_ids(full % ROUND).tolist() == [
        number if number % ROUND >= 3 else 0 for number in full.tolist()
    ]


@pytest.mark.parametrize(
    ("horizon", "reached"), [(1_000, True), (ROUND, True), (ROUND + 1, False), (ROUND - 2_000_000_001, False)]
)
def test_a_horizon_is_out_of_reach_when_it_lies_ahead_or_too_far_back(horizon: int, reached: bool) -> None:
    end = ROUND if horizon >= ROUND - 2_000_000_001 else 2_000_001_000
    assert TransactionSpan(end, end).reaches(horizon) is reached


def test_ids_come_back_when_they_were_packed() -> None:
    ids = np.array([ROUND + 5, ROUND - 1, 99, ROUND + 5, ROUND + 2_000_000])
    assert unpack_ids(pack_ids(ids, 100), 100).tolist() == [ROUND - 1, ROUND + 5, ROUND + 2_000_000]
    assert pack_ids(np.empty(0, np.int64), 100) == ""
    assert unpack_ids("", 100).tolist() == []


def test_the_load_waits_when_an_open_transaction_holds_back_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_ids, "MAX_SEEN", 3)
    with pytest.raises(TransientError, match="since transaction 7, which is still open"):
        pack_ids(np.arange(7, 11), 7)


def test_a_position_stays_small_when_it_holds_as_many_ids_as_it_may() -> None:
    ids = np.cumsum(np.random.default_rng(1).integers(1, 30, transaction_ids.MAX_SEEN))
    assert len(pack_ids(ids, 0)) < 400_000
