"""A run of change capture in a process of its own that ends at a chosen step, as ``kill -9`` ends it.

Run as a program that is told on its standard input: the case, the number of the run's minute and the step.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import psycopg

from tallyclerk.sinks.kafka_delivery import Delivery
from tallyclerk.sinks.kafka_producer import TransactionalProducer
from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
from tallyclerk.sources.database_snapshot import Snapshot
from tallyclerk.sources.log_events import LogEvents
from tallyclerk.sources.replication_slot import ReplicationSlot
from tests.faults.dying_task import die_in
from tests.integration.kafka.change_case import ChangeCase
from tests.integration.kafka.topic_case import TopicCase

BEGINNING: dict[str, Any] = {
    "after saying that a slot will be made": (TransactionalProducer, "_commit", {"call": 1}),
    "with the slot made, before the first rows are read": (Snapshot, "count", {"call": 1, "after": False}),
    "with the first rows read, before they are sent": (KafkaTransactionSink, "commit", {"call": 2, "after": False}),
    "right after the first rows' commit": (TransactionalProducer, "_commit", {"call": 2}),
}
"""Steps of a first run: what a slot is made for."""
FOLLOWING: dict[str, Any] = {
    "before the log is read": (ReplicationSlot, "peek", {"call": 1, "after": False}),
    "with the changes decoded, before they are sent": (LogEvents, "take", {"call": 1}),
    "with the changes sent, before their commit": (TransactionalProducer, "_commit", {"call": 1, "after": False}),
    "in mid sending": (Delivery, "send", {"call": 1}),
    "right after the commit, before the slot moves": (ReplicationSlot, "advance", {"call": 1, "after": False}),
    "right after the slot has moved": (ReplicationSlot, "advance", {"call": 1}),
}
"""Steps of a run that goes on."""


def main(asked: dict[str, Any]) -> None:
    case = ChangeCase(
        TopicCase(asked["bootstrap"], asked["name"]),
        psycopg.connect(asked["uri"]),
        Path(asked["contract"]),
        asked["uri"],
    )
    owner, method, when = (BEGINNING | FOLLOWING)[asked["stop"]]
    die_in(owner, method, **when)
    case.load(asked["number"])


if __name__ == "__main__":
    main(json.loads(sys.stdin.read()))  # it holds a password
