"""A table is created once, whoever else creates it at the same moment, and never over files of something else."""

from __future__ import annotations

import os

import pytest
from deltalake import DeltaTable

from tests.integration.spark.conftest import BatchSession
from tests.integration.spark.small_lake import SmallLake

pytestmark = pytest.mark.integration
ROUNDS = int(os.environ.get("TALLYCLERK_CREATION_RACES", "3"))
THREADS = 3


def race(lake: SmallLake, batch_session: BatchSession, rounds: int) -> None:
    answer = batch_session.ask(lake, only="race", rounds=rounds, threads=THREADS)
    assert answer == {"versions": [[0] * THREADS] * rounds}
    for number in range(rounds):
        table = DeltaTable(f"{lake.uri}/race/{number}")
        assert len(table.history()) == 1
        assert (table.protocol().min_reader_version, table.protocol().min_writer_version) == (1, 2)
        assert table.metadata().partition_columns == ["year", "month", "day"]


def test_one_table_and_no_error_when_several_create_it_at_once(lake: SmallLake, batch_session: BatchSession) -> None:
    race(lake, batch_session, ROUNDS)


@pytest.mark.long
def test_one_table_and_no_error_when_creation_is_raced_many_times(lake: SmallLake, batch_session: BatchSession) -> None:
    race(lake, batch_session, 10 * ROUNDS)


def test_creation_is_refused_when_the_folder_holds_files_of_something_else(
    lake: SmallLake, batch_session: BatchSession
) -> None:
    answer = batch_session.ask(lake, only="create", folder="taken/year=2026", table="taken")
    assert "is no table but holds year=2026" in answer["error"]
    assert "Move these files away" in answer["error"]
    assert not DeltaTable.is_deltatable(f"{lake.uri}/taken")
