"""The commits topic: how far each data set has come, in the same transactions as its rows (promise P3).

Two keys, both in the partition that the data set's name falls on (CRC-32 modulo the partitions), so that one partition
tells all about it:

* ``<dataset>``: the newest transaction's number and the data set's cursor;
* ``<dataset>@<window>``: the receipt of the load's newest transaction, ``details["complete"]`` says whether it is the last.

The topic is compacted, and never given other partitions. A partition is read from its beginning, 3.5 µs of CPU a record: at one
load a minute a year makes half a million records of half a kilobyte, and not quite two seconds.
"""

from __future__ import annotations

import json
import logging
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import ServiceUnavailableError, SpecError
from tallyclerk.sinks.kafka_errors import SERVICE, classify, kafka_errors

if TYPE_CHECKING:
    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

COMMITS_TOPIC = "tallyclerk.commits"
COMPLETE_KEY = "complete"
"""In ``Receipt.details``: whether the load is finished, or goes on from the receipt's cursor."""

_LIMIT_SECONDS = 60.0
_PROPAGATION_SECONDS = 3.0
"""A topic that was just made is not known to each broker at once."""


@dataclass(frozen=True, slots=True)
class Commits:
    """The commit records of one data set.

    :param partition: of the commits topic, where its records stand.
    :param transaction: number of its newest transaction, 0 when there was none.
    :param cursor: the data set's position after its newest forward transaction, empty when there was none.
    """

    dataset: str
    partition: int
    transaction: int = 0
    cursor: Mapping[str, Any] = field(default_factory=dict)
    loads: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def receipt(self, load: str) -> Receipt | None:
        """The receipt of the load's newest transaction."""
        record = self.loads.get(load)
        return None if record is None else Receipt.from_json(record.decode())

    def newest_first(self) -> list[Receipt]:
        """The receipts of all loads, by the number of their newest transactions."""
        found = [Receipt.from_json(record.decode()) for record in self.loads.values()]
        return sorted(found, key=lambda receipt: -receipt.version)


def records_of(receipt: Receipt, cursor: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    """Key and value of a transaction's two records. ``receipt.version`` is its number."""
    position = {"transaction": receipt.version, "load": receipt.load, "cursor": dict(cursor)}
    return [
        (receipt.load.encode(), receipt.as_json().encode()),
        (receipt.dataset.encode(), json.dumps(position, separators=(",", ":"), sort_keys=True).encode()),
    ]


def partition_of(dataset: str, partitions: int) -> int:
    """Where the records of a data set stand."""
    return zlib.crc32(dataset.encode()) % partitions


def receipt_of(client: Mapping[str, Any], load: str, *, commits_topic: str = COMMITS_TOPIC) -> Receipt | None:
    """The receipt of a load's newest transaction, None when it has committed nothing.

    :param client: settings of the Kafka client (``bootstrap.servers`` and how to log in).
    :param load: ``dataset@window``.
    """
    return newest_commits(client, load.rpartition("@")[0], commits_topic=commits_topic).receipt(load)


def newest_commits(
    client: Mapping[str, Any],
    dataset: str,
    *,
    commits_topic: str = COMMITS_TOPIC,
    limit_seconds: float = 360.0,
) -> Commits:
    """Read a data set's commit records, up to the end the partition had when this was called.

    :param limit_seconds: how long to wait for transactions of others that are open in the partition. Their writers commit
        within milliseconds of their record; one that died there is ended by the broker when its transaction's time is up.
    :raises ServiceUnavailableError: Kafka is away, or such a transaction stays open.
    :raises KafkaRefusedError: no such topic, or no right to read it.
    """
    from confluent_kafka import Consumer
    from confluent_kafka.admin import AdminClient

    address = str(client["bootstrap.servers"])
    what = f"reading the topic {commits_topic!r}"
    with kafka_errors(address=address, what=what):
        admin = AdminClient(dict(client), logger=log)
        consumer = Consumer(
            {
                **client,
                "group.id": "tallyclerk.commits",  # asked for, never used: offsets are neither read nor stored
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 10,  # only what is there is read
            },
            logger=log,
        )
        mark = f"{dataset}@".encode()
        try:
            # asked of the consumer itself, which then knows the leader: half a second less until its first record
            partition = partition_of(dataset, partition_count(consumer, commits_topic, address=address))
            end = _end(admin, commits_topic, partition)
            found = _read(
                consumer, commits_topic, partition, end,
                wanted=lambda key: key == mark[:-1] or key.startswith(mark), address=address, limit_seconds=limit_seconds,
            )  # fmt: skip
        finally:
            consumer.close()
    position = json.loads(found.pop(dataset.encode(), b"{}"))
    return Commits(
        dataset,
        partition,
        transaction=position.get("transaction", 0),
        cursor=position.get("cursor", {}),
        loads={key.decode(): value for key, value in found.items()},
    )


def partition_count(
    asked: AdminClient | Consumer, topic: str, *, address: str, limit_seconds: float = _LIMIT_SECONDS
) -> int:
    """How many partitions a topic has.

    :raises KafkaRefusedError: there is no such topic, or this login may not see it.
    """
    deadline = time.monotonic() + _PROPAGATION_SECONDS
    while True:
        found = asked.list_topics(topic, timeout=limit_seconds).topics[topic]
        if found.error is None:
            return len(found.partitions)
        if time.monotonic() > deadline:
            raise classify(found.error, address=address, what=f"the topic {topic!r}")
        time.sleep(0.1)


def require_compacted(admin: AdminClient, topic: str, *, address: str) -> None:
    """:raises SpecError: the topic would forget cursors, as it deletes by age or size."""
    from confluent_kafka.admin import ConfigResource, ResourceType

    resource = ConfigResource(ResourceType.TOPIC, topic)
    settings = admin.describe_configs([resource], request_timeout=_LIMIT_SECONDS)[resource].result()
    policy = settings["cleanup.policy"].value
    if policy != "compact":
        raise SpecError(
            f"The topic {topic!r} at {address} has cleanup.policy={policy}, and would forget how far loads have come. "
            "Set it to compact."
        )


def _end(admin: AdminClient, topic: str, partition: int) -> int:
    """The offset after the last record, open transactions included: what a read_committed reader has to reach."""
    from confluent_kafka import IsolationLevel, TopicPartition
    from confluent_kafka.admin import OffsetSpec

    asked = TopicPartition(topic, partition)
    answers = admin.list_offsets(
        {asked: OffsetSpec.latest()},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=_LIMIT_SECONDS,
    )
    return answers[asked].result().offset


def _read(
    consumer: Consumer,
    topic: str,
    partition: int,
    end: int,
    *,
    wanted: Callable[[bytes], bool],
    address: str,
    limit_seconds: float,
) -> dict[bytes, bytes]:
    """The newest value of each wanted key before ``end``."""
    from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

    found: dict[bytes, bytes] = {}
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    reached, deadline = 0, time.monotonic() + limit_seconds
    while reached < end:
        message = consumer.poll(1.0)  # consume() of many would wait its whole time at the end
        error = message.error() if message is not None else None
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise classify(error, address=address, what=f"reading the topic {topic!r}")
        if message is not None:
            offset, key, value = message.offset() or 0, message.key(), message.value()
            reached = offset if error is not None else offset + 1  # the end is past markers and aborted records
            if error is None and key is not None and wanted(key):
                if value is None:
                    found.pop(key, None)
                else:
                    found[key] = value
        if reached < end and time.monotonic() > deadline:
            raise ServiceUnavailableError(
                service=SERVICE,
                address=address,
                cause=(
                    f"{topic}[{partition}] cannot be read beyond offset {reached} of {end}: a transaction stays open. When none of "
                    "its writers lives, end it (kafka-transactions.sh find-hanging, abort); its rows are then sent again"
                ),
            )
    return found
