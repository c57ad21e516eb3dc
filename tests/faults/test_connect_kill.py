"""kill -9 of the Connect worker while Debezium sends: read-committed readers see each change once.

On a second instance of the tests' own. TALLYCLERK_CONNECT_KILLS says how often it is killed (1 unless set).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from stack import processes
from stack.service import select
from stack.services import SERVICES, connect, registry
from stack.services.connect import CONNECT
from stack.settings import LOOPBACK, Settings
from stack.supervisor import Supervisor
from tallyclerk.operators.connector import ConnectorOperator
from tests.integration.connect.captured_table import LIMIT_SECONDS, CapturedTable, doubled, set_connections
from tests.running import RunTask
from tests.second_stack import kill, second_stack

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.slow]
KILLS = int(os.environ.get("TALLYCLERK_CONNECT_KILLS", "1"))
ROWS_PER_COMMIT = 50


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with second_stack(tmp_path_factory.mktemp("second-connect"), "connect") as stack:
        yield stack


@pytest.fixture
def table(instance: Supervisor, monkeypatch: pytest.MonkeyPatch) -> Iterator[CapturedTable]:
    settings = instance.settings
    set_connections(settings, monkeypatch)
    with CapturedTable.made(settings, connect.url(settings), registry.url(settings)) as table:
        yield table


class Shop:
    """Commits rows until told that the worker was killed for the last time."""

    def __init__(self, settings: Settings, table: CapturedTable) -> None:
        self.address = psycopg.conninfo.make_conninfo(
            host=LOOPBACK,
            port=settings.port("POSTGRES"),
            dbname="retail",
            user="retail",
            password=settings.secret("RETAIL_DB_PASSWORD"),
        )
        self.table, self.committed, self.is_over = table, 5, threading.Event()
        self.thread = threading.Thread(target=self._sell)

    def _sell(self) -> None:
        insert = (
            f"INSERT INTO {self.table.name}.customers SELECT n, 'new', now() FROM generate_series(%s::int, %s::int) n"
        )
        with psycopg.connect(self.address, autocommit=True) as connection:
            while not self.is_over.wait(0.05):
                connection.execute(insert, [self.committed + 1, self.committed + ROWS_PER_COMMIT])
                self.committed += ROWS_PER_COMMIT


def test_each_change_is_seen_once_when_the_worker_is_killed_while_it_sends(
    run_task: RunTask, instance: Supervisor, table: CapturedTable, tmp_path: Path
) -> None:
    operator = ConnectorOperator(
        task_id="connector",
        connector=table.name,
        config=table.config(tmp_path, max__batch__size="64", poll__interval__ms="20"),
        settle_seconds=2,
        limit_seconds=LIMIT_SECONDS,
    )
    run_task(operator)
    shop = Shop(instance.settings, table)
    shop.thread.start()
    arrived: list[int] = []
    try:
        for number in range(KILLS):
            more = (arrived[-1] if arrived else 0) + 500
            assert processes.wait_until(lambda more=more: table.written() >= more, LIMIT_SECONDS)
            kill(instance, CONNECT)
            arrived.append(table.written())
            # what is committed while nobody reads
            missed = shop.committed + 10 * ROWS_PER_COMMIT
            assert processes.wait_until(lambda missed=missed: shop.committed >= missed, LIMIT_SECONDS)
            if number == KILLS - 1:
                shop.is_over.set()
            instance.up(select(SERVICES, ["connect"]))
    finally:
        shop.is_over.set()
        shop.thread.join()
    # the connector comes back by itself: nobody applies it again
    events = table.events(shop.committed)
    keys = Counter(key for key, _ in events)
    assert sorted(keys) == list(range(1, shop.committed + 1))
    assert set(keys.values()) == {1}
    assert not doubled(events)
