"""Topics of the test's own on the real broker: made, brought up to date, never given other partitions."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from stack.errors import StackError
from stack.services.kafka import bootstrap
from stack.settings import load_settings
from stack.topics import Topic, ensure_topics

pytestmark = pytest.mark.integration

ADDRESS = bootstrap(load_settings())


@pytest.fixture(scope="module")
def admin() -> AdminClient:
    return AdminClient({"bootstrap.servers": ADDRESS})


@pytest.fixture
def name(admin: AdminClient) -> Iterator[str]:
    name = f"declared-{uuid4().hex[:12]}"
    yield name
    for future in admin.delete_topics([name]).values():
        future.result(60)


def settings_of(admin: AdminClient, name: str) -> dict[str, str]:
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
    return {entry.name: entry.value for entry in future.result(60).values()}


def ensure(*topics: Topic) -> list[str]:
    said: list[str] = []
    ensure_topics({"bootstrap.servers": ADDRESS}, topics, say=said.append)
    return said


def eventually(condition: Callable[[], bool]) -> bool:
    from stack.processes import wait_until

    return wait_until(condition, 60)


def test_a_second_time_changes_nothing_and_a_declared_setting_is_brought_up_to_date(
    admin: AdminClient, name: str
) -> None:
    declared = Topic(name=name, partitions=2, configs={"cleanup.policy": "compact", "min.cleanable.dirty.ratio": 0.1})
    assert ensure(declared) == [f"topic {name} made"]
    assert eventually(lambda: name in admin.list_topics(timeout=60).topics)
    assert len(admin.list_topics(timeout=60).topics[name].partitions) == 2
    assert ensure(declared) == []
    assert ensure(Topic(name=name, partitions=2, configs={"retention.ms": 1234567})) == [
        f"topic {name}: retention.ms=1234567"
    ]
    found = settings_of(admin, name)
    # what is no longer declared stays as it is
    assert (found["retention.ms"], found["cleanup.policy"]) == ("1234567", "compact")


def test_other_partitions_are_refused_and_nothing_is_changed(admin: AdminClient, name: str) -> None:
    ensure(Topic(name=name, partitions=2))
    assert eventually(lambda: name in admin.list_topics(timeout=60).topics)
    other = f"{name}-new"
    with pytest.raises(StackError, match=f"{name} has 2 partitions, declared are 3"):
        ensure(Topic(name=other, partitions=1), Topic(name=name, partitions=3))
    topics = admin.list_topics(timeout=60).topics
    assert len(topics[name].partitions) == 2
    assert other not in topics


def test_the_brokers_refusal_is_told(name: str) -> None:
    with pytest.raises(StackError, match="nonsense"):
        ensure(Topic(name=f"{name}-x", partitions=1, configs={"nonsense": "1"}))
    ensure(Topic(name=name, partitions=1))


def test_no_broker_is_an_error_that_names_the_address() -> None:
    from stack import topics as subject

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subject, "_LIMIT_SECONDS", 1.0)
        with pytest.raises(StackError, match=r"127\.0\.0\.1:1 "):
            ensure_topics({"bootstrap.servers": "127.0.0.1:1"}, [], say=print)
