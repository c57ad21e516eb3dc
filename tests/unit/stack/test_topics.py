"""The declared topics: what the file may say, and what ours says."""

from pathlib import Path

import pytest

from stack.errors import StackError
from stack.settings import ROOT
from stack.topics import read_topics

DECLARED = ROOT / "include" / "kafka" / "topics.yaml"


def test_ours_are_those_of_the_pipeline_each_with_a_place_for_rejects() -> None:
    topics = {topic.name: topic for topic in read_topics(DECLARED)}
    for name in ("transactions", "products", "customers"):
        assert topics[name].partitions == topics[f"{name}.rejected"].partitions == 3
        assert int(topics[f"{name}.rejected"].configs["retention.ms"]) > int(topics[name].configs["retention.ms"])
    assert topics["tallyclerk.commits"].configs["cleanup.policy"] == "compact"


def test_scalars_are_written_as_kafka_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(
        "topics: [{name: t, partitions: 1, configs: {a: 0.1, b: true, c: 5, d: compact}}]",
    )
    assert read_topics(path)[0].configs == {"a": "0.1", "b": "true", "c": "5", "d": "compact"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("topics: [{name: t}]", "partitions"),
        ("topics: [{name: t, partitions: 0}]", "partitions"),
        ("topics: [{name: t, partitions: 1, retention: 5}]", "retention"),
        ("topics: [{name: 'a b', partitions: 1}]", "name"),
        ("topics: [{name: t, partitions: 1}, {name: t, partitions: 1}]", "twice: t"),
        ("topics: [", "line 1"),
        ("", "topics"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(text)
    with pytest.raises(StackError, match=named):
        read_topics(path)
