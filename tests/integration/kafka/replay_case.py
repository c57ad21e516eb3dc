"""A stream with a quarantine where the commands look for it, and replays of what is in there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic
from deltalake import DeltaTable

from tallyclerk.operators.replay_messages import ReplayMessagesOperator
from tests.integration.kafka.lake_case import DAY, LakeCase, bootstrap_servers, connections, lake_root
from tests.running import RunTask, TaskRun

DATE = DAY.date().isoformat()


class ReplayCase(LakeCase):
    """One topic and its stream, loaded and replayed in this process."""

    def load(self, run_task: RunTask, **options: Any) -> dict[str, Any]:
        task = self.task(quarantine=f"/data/quarantine/{self.name}", max_rejected_ratio=1.0, **options)
        return run_task(task).value

    def load_with_a_damaged_message(self, run_task: RunTask) -> None:
        """A row, and behind it a message whose amount is `many`: rejected, at offset 1 of partition 0."""
        good = {"id": 1, "amount": "1.00", "note": "käse", "happened_at": "2026-03-10T12:00:00Z"}
        self.send([json.dumps(each).encode() for each in (good, {**good, "id": 2, "amount": "many"})], partition=0)
        assert ledger(self.load(run_task, value_format="json")) == (2, 1, 1)

    def assert_mended(self, run_task: RunTask) -> None:
        """The replay of that message, and nothing else, is a row at the next load."""
        assert ledger(self.load(run_task, value_format="json")) == (1, 1, 0)
        assert self.load(run_task, value_format="json")["repeated"]
        assert self.ids() == [1, 2]

    def replay(self, run_task: RunTask, *corrections: dict[str, Any], **options: Any) -> TaskRun:
        """As the DAG's task does."""
        operator = ReplayMessagesOperator(
            task_id="send", dataset=self.name, corrections=json.dumps(corrections), note="test", **options
        )
        return run_task(operator, conf={"date": DATE})

    def correction(self, offset: int, text: str | None, *, partition: int = 0) -> dict[str, Any]:
        return {"source": f"{self.name}/{partition}", "record_number": offset, "text": text}

    def outcomes(self) -> list[dict[str, Any]]:
        """All that is kept of the corrections, oldest first."""
        rows = DeltaTable(f"{lake_root()}/data/corrections/{self.name}.stream").to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda row: row["revision"])

    def replays(self) -> list[tuple[bytes, dict[str, bytes]]]:
        """Value and headers of each message that says what it is the replay of."""
        found = []
        consumer = Consumer(
            {"bootstrap.servers": bootstrap_servers(), "group.id": f"look-{uuid4().hex}", "enable.auto.commit": False}
        )
        try:
            wanted = {(each.partition, each.offset) for each in self.messages()}
            consumer.assign([TopicPartition(self.name, partition, 0) for partition in {each for each, _ in wanted}])
            while wanted:
                message = consumer.poll(60)
                assert message is not None, f"{self.name} was not read within a minute"
                wanted.discard((message.partition(), message.offset()))
                if headers := message.headers():
                    found.append((message.value(), dict(headers)))
        finally:
            consumer.close()
        return found


def ledger(receipt: dict[str, Any]) -> tuple[int, int, int]:
    """Read, written and rejected, of a ledger that closes."""
    counts = receipt["ledger"]
    assert counts["read"] == sum(counts[name] for name in ("written", "rejected", "filtered", "deduplicated"))
    return counts["read"], counts["written"], counts["rejected"]


@contextmanager
def replay_case(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayCase]:
    """Made, with its connections and a topic for its commits, and taken away again."""
    from hdfs_native import Client

    for name, value in connections().items():
        monkeypatch.setenv(name, value)
    case = ReplayCase(folder=str(folder), lake=f"/tmp/tests/message-replay/{uuid4().hex}")
    case.create()
    compacted = NewTopic(f"{case.name}.commits", 1, 1, config={"cleanup.policy": "compact"})
    for future in case.admin.create_topics([compacted], operation_timeout=120).values():
        future.result(120)
    try:
        yield case
    finally:
        case.delete()
        client = Client(lake_root())
        for path in (case.lake, f"/data/quarantine/{case.name}.stream", f"/data/corrections/{case.name}.stream"):
            client.delete(path, recursive=True)
