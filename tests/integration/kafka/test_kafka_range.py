"""Exactly a range of a real topic, as often as it is asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stack import processes
from tallyclerk.sources.kafka_range import KafkaRange
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers, rows

pytestmark = pytest.mark.integration
ROWS = 300


@pytest.fixture
def case() -> Iterator[TopicCase]:
    made = TopicCase(bootstrap_servers())
    made.create()
    yield made
    made.delete()


def test_all_of_a_range_comes_again_when_one_reader_reads_it_twice(case: TopicCase) -> None:
    with case.sink() as sink:
        sink.commit(rows(ROWS), case.receipt(ROWS), complete=True)
    assert processes.wait_until(lambda: len(case.messages()) == ROWS, 120)
    with KafkaRange(client=case.client, topic=case.name, stall_limit_seconds=60) as reader:
        offsets, _ = reader.plan({})
        assert [sum(len(batch.values) for batch in reader.read(offsets)) for _ in range(2)] == [ROWS, ROWS]
