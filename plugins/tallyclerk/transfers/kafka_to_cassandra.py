"""The newest values of a Kafka topic to Cassandra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tallyclerk.exceptions import ServiceUnavailableError, SpecError
from tallyclerk.transfers.base import LoadOperator, living_window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.contracts import Contract
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
    from tallyclerk.sinks.cassandra_table import TargetTable
    from tallyclerk.sinks.quarantine import Quarantine
    from tallyclerk.sources.kafka_decoding import MessageDecoder
    from tallyclerk.sources.kafka_newest import NewestOfKeys
    from tallyclerk.sources.kafka_range import KafkaRange
    from tallyclerk.transfers.kafka_drain import Drain

_CHOICES = {
    "mode": ("once", "continuous"),
    "value_format": ("json", "avro"),
    "nulls": ("delete", "unset"),
    "on_deleted": ("fail", "record"),
}
FOUR_DAYS_SECONDS = 4 * 86_400
"""Longer than the two days for which the speed layer takes sales."""


class KafkaToCassandraOperator(LoadOperator):
    """Keep a Cassandra table at the newest value of each key of a topic.

    A poll reads from the cursor to the read_committed end of now, in pieces that fit into memory, writes the newest value of each
    key, removes the row of a key whose newest message is a tombstone, and moves the cursor in ``<keyspace>.tallyclerk_drains``
    when every write is acknowledged. A row's write timestamp comes from its message's offset, so that nothing is ever taken back
    by a retry, a replay, or a second drain beside it. What does not fit the contract goes to quarantine, before the cursor moves.
    See :class:`~tallyclerk.transfers.kafka_drain.Drain` for the guarantee. No other program may write to the table.

    The position is mirrored to the consumer group ``tallyclerk.<dataset>.<table>``, for the tools that tell a group's lag.

    ``mode="continuous"`` polls until the run's UTC day is over (or what the run's conf names, or ``until``), and keeps its slot
    meanwhile: to start a worker for each poll costs more than the poll. Stopping the task ends it after the present piece.

    Gauges, after each poll: ``tallyclerk.<dataset>.lag_rows`` and, where there was something to write, ``.freshness_seconds``, the
    longest time from a message's timestamp to its acknowledged write.

    :param contract: path of the contract, with ``kafka`` and ``cassandra`` properties whose keys are the same. Templated.
    :param topic: the contract's when None. Templated.
    :param keyspace: instead of the contract's. Templated.
    :param mode: ``once``: one poll. ``continuous``: see above.
    :param poll_interval_seconds: from one poll's begin to the next one's.
    :param until: ISO 8601 instant with an offset at which a continuous drain ends. Templated.
    :param ttl_seconds: how long a row lives after it was last written; 0 is for ever.
    :param nulls: what a null in the newest value does to an older one's cell: ``delete``, or ``unset``, which leaves it.
    :param value_format: ``json`` or ``avro`` (framed as Confluent does). Keys of tombstones are JSON or plain text.
    :param on_deleted: ``record``: go on where messages are left that retention has not deleted, and note what is missing.
    :param max_rejected_ratio: share of a piece's messages above which the task fails; ten are let pass in any case.
    :param max_piece_messages: messages, about, that are in memory at once.
    :param quarantine: path of the quarantine table in the lake; ``/data/quarantine/<dataset>`` when None. Templated.
    :param create: make keyspace and tables where they are missing.
    :param replication: of a keyspace that is made; the default suits one node.
    :param in_flight: statements on the way at a time.
    :param log_every_polls: how often a continuous drain tells what it did.
    :param unavailable_limit_seconds: how long the task itself waits for Cassandra, before Airflow's retry.
    :param kafka_conn_id, cassandra_conn_id, registry_conn_id, hdfs_conn_id: connections; the registry is asked for Avro only, the
        lake when something is rejected.
    :return: the receipt of all polls as a mapping; ``version`` is the topic's generation, ``details`` hold ``lag_rows`` and
        ``freshness_seconds`` (``max``, ``p95``).
    """

    template_fields: Sequence[str] = ("contract", "topic", "keyspace", "until", "quarantine")

    def __init__(
        self, *, contract: str, topic: str | None = None, keyspace: str | None = None, mode: str = "once",
        poll_interval_seconds: float = 5.0, until: str | None = None, ttl_seconds: int = FOUR_DAYS_SECONDS,
        nulls: str = "delete", value_format: str = "json", on_deleted: str = "fail", max_rejected_ratio: float = 0.1,
        max_piece_messages: int = 100_000, quarantine: str | None = None, create: bool = True,
        replication: Mapping[str, Any] | None = None, in_flight: int = 32, log_every_polls: int = 60,
        unavailable_limit_seconds: float = 120.0, kafka_conn_id: str = "kafka_default",
        cassandra_conn_id: str = "cassandra_default", registry_conn_id: str = "schema_registry_default",
        hdfs_conn_id: str = "hdfs_default", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.contract, self.topic, self.keyspace, self.mode = contract, topic, keyspace, mode
        self.poll_interval_seconds, self.until, self.ttl_seconds = poll_interval_seconds, until, ttl_seconds
        self.nulls, self.value_format, self.on_deleted = nulls, value_format, on_deleted
        self.max_rejected_ratio, self.max_piece_messages = max_rejected_ratio, max_piece_messages
        self.quarantine, self.create, self.replication = quarantine, create, replication
        self.in_flight, self.log_every_polls = in_flight, log_every_polls
        self.unavailable_limit_seconds = unavailable_limit_seconds
        self.kafka_conn_id, self.cassandra_conn_id = kafka_conn_id, cassandra_conn_id
        self.registry_conn_id, self.hdfs_conn_id = registry_conn_id, hdfs_conn_id
        self._is_killed = False
        self._wake: SimpleQueue[None] | None = None

    @cached_property
    def cassandra(self) -> CassandraClusterHook:
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.sinks.cassandra_client import Backoff

        return CassandraClusterHook(
            self.cassandra_conn_id, backoff=Backoff(limit_seconds=self.unavailable_limit_seconds)
        )

    def execute(self, context: Context) -> dict[str, Any]:
        from tallyclerk.contracts import load_contract

        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        contract, self._wake = load_contract(self.contract), SimpleQueue()
        end = self._end(context) if self.mode == "continuous" else None
        with self.cassandra, self._drain(contract) as drain:
            self._run(drain, contract.dataset, end)
            return self.publish(drain.receipt(), context, self.cassandra)

    def stored_columns(self, contract: Contract) -> dict[str, str]:
        from tallyclerk.contracts.projections import cql_types

        return cql_types(contract)

    def on_kill(self) -> None:
        """Stop after the present piece, whose writes are then acknowledged and the cursor behind them."""
        self._is_killed = True
        if self._wake is not None:
            self._wake.put(None)  # of all that wakes a thread, this may be called in a signal's handler

    def _run(self, drain: Drain, dataset: str, end: datetime | None) -> None:
        """One poll, or polls until one that began at ``end``."""
        from tallyclerk.operators.metrics import tell

        for number in count(1):
            began = datetime.now(UTC)
            tell(dataset, drain.poll())
            if self._is_killed:
                raise ServiceUnavailableError(service="The task", address=dataset, cause="it was stopped")
            if end is None or began >= end:
                return
            if number % self.log_every_polls == 0:
                receipt = drain.receipt()
                self.log.info(
                    "%s: %s; %d behind, freshness %s", receipt.load, receipt.ledger, drain.lag_rows,
                    receipt.details["freshness_seconds"],
                )  # fmt: skip
            self._wait_until(min(began + timedelta(seconds=self.poll_interval_seconds), end))

    def _wait_until(self, moment: datetime) -> None:
        assert self._wake is not None
        with suppress(Empty):
            self._wake.get(timeout=max(0.0, (moment - datetime.now(UTC)).total_seconds()))

    @contextmanager
    def _drain(self, contract: Contract) -> Iterator[Drain]:
        """Source and sink, and the drain that joins them."""
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
        from tallyclerk.sinks.cassandra_drains import DrainsTable
        from tallyclerk.sinks.cassandra_newest import CassandraNewest
        from tallyclerk.sinks.cassandra_table import DEFAULT_REPLICATION, TargetTable
        from tallyclerk.sinks.cassandra_target import CassandraTarget
        from tallyclerk.transfers.kafka_drain import Drain

        table = TargetTable.from_contract(contract, keyspace=self.keyspace)
        topic, load_id, cassandra = self._topic(contract, table), uuid4().hex, self.cassandra
        target = CassandraTarget(cassandra.session, table, backoff=cassandra.backoff, address=cassandra.address)
        drains = DrainsTable(
            cassandra.session, keyspace=table.keyspace, dataset=contract.dataset, target=table.table,
            backoff=cassandra.backoff, address=cassandra.address,
        )  # fmt: skip
        sink = CassandraNewest(target, ttl_seconds=self.ttl_seconds, nulls=self.nulls, in_flight=self.in_flight)  # type: ignore[arg-type]
        if self.create:
            target.create(self.replication or DEFAULT_REPLICATION, drains.create_cql)
        target.check_schema()
        with Drain(
            client=KafkaClusterHook(self.kafka_conn_id).client_config, topic=topic, dataset=contract.dataset,
            location=target.location, source=lambda reader: self._source(contract, reader, load_id), sink=sink,
            drains=drains, quarantine=lambda: self._quarantine(contract),
            group=f"tallyclerk.{contract.dataset}.{table.table}", load_id=load_id, contract_version=contract.version,
            on_deleted=self.on_deleted, is_stopped=lambda: self._is_killed,  # type: ignore[arg-type]
        ) as drain:  # fmt: skip
            yield drain

    def _topic(self, contract: Contract, table: TargetTable) -> str:
        """:raises SpecError: the contract has no topic, or messages with another key than the table's rows."""
        if contract.kafka is None:
            raise SpecError(f"{contract.path}: has no customProperty 'kafka'; add it under schema[0].customProperties.")
        key = sorted(column.source for column in table.key_columns)
        if sorted(contract.kafka.key) != key:
            raise SpecError(
                f"{contract.path}: the messages' key {list(contract.kafka.key)} and the table's {key} are not the same columns, so "
                "that the messages of a row could be in several partitions, whose offsets say nothing of their order."
            )
        return self.topic or contract.kafka.topic

    def _source(self, contract: Contract, reader: KafkaRange, load_id: str) -> NewestOfKeys:
        import pyarrow as pa

        from tallyclerk.contracts.projections import arrow_schema
        from tallyclerk.sources.kafka_decoding import FramedAvro, JsonObjects
        from tallyclerk.sources.kafka_newest import NewestOfKeys
        from tallyclerk.sources.message_keys import MessageKeys
        from tallyclerk.sources.message_rules import RowRules

        assert contract.kafka is not None
        target = arrow_schema(contract, derived=False)
        uuids = [column.name for column in contract.source_columns if column.kind == "uuid"]
        keys = pa.schema([arrow_schema(contract).field(name) for name in contract.kafka.key])
        decoder: MessageDecoder = JsonObjects(target, uuids)
        if self.value_format == "avro":
            from tallyclerk.hooks.schema_registry import SchemaRegistryHook
            from tallyclerk.sinks.schema_registry import SchemaRegistry

            hook = SchemaRegistryHook(self.registry_conn_id)
            registry = SchemaRegistry(hook.url, auth=hook.auth, verify=hook.ca_file or True)
            decoder = FramedAvro(target, uuids, registry.schema)
        return NewestOfKeys(
            reader=reader, decoder=decoder, keys=MessageKeys(keys, [name for name in keys.names if name in uuids]),
            rules=RowRules(contract), dataset=contract.dataset, contract_version=contract.version, load_id=load_id,
            max_rejected_ratio=self.max_rejected_ratio, max_piece_messages=self.max_piece_messages,
        )  # fmt: skip

    def _quarantine(self, contract: Contract) -> Quarantine:
        """Beside that of windows, as :class:`~tallyclerk.transfers.kafka_to_hdfs.KafkaToHdfsOperator` keeps it for streams."""
        from tallyclerk.hooks.lake import LakeHook
        from tallyclerk.sinks.quarantine import Quarantine

        uri = LakeHook(self.hdfs_conn_id).uri(self.quarantine or f"/data/quarantine/{contract.dataset}")
        return Quarantine(f"{uri}.stream", dataset=contract.dataset)

    def _end(self, context: Context) -> datetime:
        if self.until is None:
            return living_window_of(context).end
        try:
            end = datetime.fromisoformat(self.until)
        except ValueError:
            raise SpecError(f"until={self.until!r} is not an instant such as 2026-03-10T12:00:00+00:00.") from None
        if end.tzinfo is None:
            raise SpecError(f"until={self.until!r} has no offset; add one, as in {self.until}+00:00.")
        return end
