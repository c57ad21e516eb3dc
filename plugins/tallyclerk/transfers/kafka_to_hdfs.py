"""A Kafka topic to the lake."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.receipt import load_name
from tallyclerk.core.topic_reading import READING_KEY, TopicReading
from tallyclerk.exceptions import NotProducedError, SpecError
from tallyclerk.transfers.base import LakeLoadOperator, window_of

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context

    from tallyclerk.contracts import Contract
    from tallyclerk.core.receipt import Receipt
    from tallyclerk.core.window import Window
    from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
    from tallyclerk.hooks.lake import LakeHook
    from tallyclerk.sinks.lake_stream import LakeStream
    from tallyclerk.sinks.lake_table import LakeTable
    from tallyclerk.sinks.quarantine import Quarantine
    from tallyclerk.sources.kafka_decoding import MessageDecoder
    from tallyclerk.sources.kafka_messages import KafkaMessages
    from tallyclerk.sources.kafka_range import KafkaRange

_CHOICES = {
    "bounded_by": ("window", "stream"),
    "value_format": ("avro", "json"),
    "tombstones": ("filter", "reject"),
    "on_deleted": ("fail", "record"),
}


class KafkaToHdfsOperator(LakeLoadOperator):
    """Load a range of a topic into a Delta table on HDFS, every visible message accounted for.

    Only committed messages are read, and rows and offsets are committed together. A message that is not framed, of an unknown
    or unfit schema, cut off, not JSON, or that breaks the contract goes to quarantine with topic, partition, offset, reason
    and bytes; the others land. Messages that retention deleted unread are an error.

    ``bounded_by="window"``: the range is the one that the writer of the same window has recorded
    (:class:`~tallyclerk.sinks.kafka_transaction.KafkaTransactionSink`), its rows replace the window's day, and there must be
    exactly as many messages as the writer counted. See :class:`~tallyclerk.transfers.base.LakeLoadOperator` for the guarantee.

    ``bounded_by="stream"``: from the table's own position to the read_committed end when the task starts; rows are appended to
    the UTC day of their message's timestamp. See :class:`~tallyclerk.transfers.kafka_stream.StreamLoad` for the guarantee.
    A table is loaded in one of the two ways, for good.

    What the writer rejected (JSON in the quarantine's schema in the topic ``<topic>.rejected``) is drained, always as a stream
    of its own, into the quarantine of streams: the writer's transactions make each of these messages visible once, and
    their own offsets make each land once, whichever window it is about and however often that window is read again.

    :param topic: the contract's when None. Templated.
    :param kafka_conn_id, registry_conn_id: connections; the registry is asked for Avro only.
    :param value_format: ``avro`` (framed as Confluent does) or ``json``.
    :param change_events: the values are change events (:func:`~tallyclerk.contracts.changes.change_schema`) instead of rows.
    :param max_messages: offsets to read at most in one run of a stream.
    :param max_rejected_ratio: share of the messages above which the load fails.
    :param start: of a stream whose table has no position: partition → offset; its beginning where none is named.
    :param offsets: ``{"0": [start, end], ...}`` to load instead, idempotently: a window's day gets just these messages; in a
        stream they replace the earlier loads that lie in the range. Templated.
    :param on_deleted: ``record``: go on where messages are left, and note what is missing in the receipt.
    :param metadata_columns: of ``_topic``, ``_partition``, ``_offset``, ``_timestamp``, to be stored after the contract's; None
        is none of them for rows and all for change events, whose order they tell.
    :param tombstones: a message without a value is left out (``filter``, counted as filtered) or rejected (``reject``).
    :param commits_topic: where writers record their windows.
    :param dead_letters: drain ``<topic>.rejected`` where there is such a topic.
    """

    template_fields: Sequence[str] = (*LakeLoadOperator.template_fields, "topic", "offsets")

    def __init__(
        self, *, topic: str | None = None, kafka_conn_id: str = "kafka_default",
        registry_conn_id: str = "schema_registry_default", value_format: str = "avro", bounded_by: str = "window",
        change_events: bool = False, max_messages: int | None = None, max_rejected_ratio: float = 0.1,
        start: Mapping[str, int] | None = None, offsets: Mapping[str, Sequence[int]] | str | None = None,
        on_deleted: str = "fail", metadata_columns: Sequence[str] | None = None, tombstones: str = "filter",
        dead_letters: bool = True, commits_topic: str = "tallyclerk.commits", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.topic, self.kafka_conn_id, self.registry_conn_id = topic, kafka_conn_id, registry_conn_id
        self.value_format, self.bounded_by, self.change_events = value_format, bounded_by, change_events
        self.max_messages, self.max_rejected_ratio, self.start = max_messages, max_rejected_ratio, start
        self.offsets, self.on_deleted, self.metadata_columns = offsets, on_deleted, metadata_columns
        self.tombstones, self.dead_letters, self.commits_topic = tombstones, dead_letters, commits_topic

    @cached_property
    def cluster(self) -> KafkaClusterHook:
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook

        return KafkaClusterHook(self.kafka_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        from tallyclerk.contracts import load_contract
        from tallyclerk.hooks.lake import LakeHook

        self._check_choices()
        contract, lake = load_contract(self.contract), LakeHook(self.hdfs_conn_id)
        topic = self.topic_of(contract)
        if self.dead_letters:
            self._drain(lake, contract, f"{topic}.rejected")
        with self._reader(topic) as reader:
            if self.bounded_by == "window":
                receipt = self._load_window(lake, contract, reader, window_of(context))
            else:
                receipt = self._load_stream(lake, contract, reader)
        return self.publish(receipt, context, lake)

    def topic_of(self, contract: Contract) -> str:
        """:raises SpecError: neither the task nor the contract names one."""
        topic = self.topic or (contract.kafka.topic if contract.kafka else None)
        if not topic:
            raise SpecError(f"{contract.path}: has no customProperty 'kafka'; add it, or give the task a topic.")
        return topic

    def read_columns(self, contract: Contract) -> dict[str, str]:
        from tallyclerk.contracts.changes import change_schema

        if not self.change_events:
            return super().read_columns(contract)
        return {column.name: str(column.type) for column in change_schema(contract)}

    def stored_columns(self, contract: Contract) -> dict[str, str]:
        if not self.change_events and not self._metadata:
            return super().stored_columns(contract)
        return {column.name: str(column.type) for column in self.row_schema(contract)}

    def row_schema(self, contract: Contract) -> pa.Schema:
        """The table's columns."""
        from tallyclerk.contracts.changes import change_schema
        from tallyclerk.contracts.projections import arrow_schema
        from tallyclerk.sources.kafka_messages import row_schema

        own = change_schema(contract) if self.change_events else arrow_schema(contract)
        return row_schema(own, self._metadata)

    def lake_table(self, lake: LakeHook, contract: Contract) -> LakeTable:
        """:raises SpecError: the table is a stream's."""
        stream = self._stream(lake, contract, self.topic_of(contract))
        if stream.is_begun():
            raise SpecError(
                f"{stream.uri} has grown as a stream, and a window's load would replace whole days of it. "
                "Give windows a table of their own, or pass bounded_by='stream'."
            )
        return stream

    def _load_window(self, lake: LakeHook, contract: Contract, reader: KafkaRange, window: Window) -> Receipt:
        load_id = uuid4().hex
        offsets, expected = self._stated_offsets(reader.topic), None
        if offsets is None:
            offsets, expected = self._produced(contract, reader.topic, window)
        source = self._source(contract, reader, offsets, load_id, expected=expected)
        return self.load(lake, window, contract, source, load_id)

    def _produced(self, contract: Contract, topic: str, window: Window) -> tuple[Offsets, int]:
        """The range and the number of messages that the window's writer has recorded."""
        from tallyclerk.sinks.kafka_commits import COMPLETE_KEY, receipt_of
        from tallyclerk.sinks.kafka_transaction import ACKED_KEY

        load = load_name(contract.dataset, window)
        produced = receipt_of(self.cluster.client_config, load, commits_topic=self.commits_topic)
        if produced is None:
            raise NotProducedError(load=load, found="its writer has committed nothing")
        if not produced.details.get(COMPLETE_KEY):
            raise NotProducedError(
                load=load, found=f"its writer has committed {produced.ledger.written:,} rows and is not at the end"
            )
        offsets = Offsets.from_dict(produced.details[OFFSETS_KEY])
        if offsets.topic != topic:
            raise SpecError(
                f"{load} was written to the topic {offsets.topic!r}, not to {topic!r}; correct the task's topic."
            )
        return offsets, int(produced.details[ACKED_KEY])

    def _load_stream(self, lake: LakeHook, contract: Contract, reader: KafkaRange) -> Receipt:
        from tallyclerk.transfers.kafka_stream import StreamLoad

        load = StreamLoad(
            reader=reader,
            table=self._stream(lake, contract, reader.topic),
            quarantine=self._stream_quarantine(lake, contract),
            source=lambda offsets, load_id: self._source(contract, reader, offsets, load_id),
            contract_version=contract.version,
            start=_by_number(self.start),
            max_messages=self.max_messages,
            on_deleted=self.on_deleted,  # type: ignore[arg-type]
            details={READING_KEY: self._reading(contract).as_dict()},
        )
        stated = self._stated_offsets(reader.topic)
        return load.run() if stated is None else load.reload(stated, always=self.reload)

    def _drain(self, lake: LakeHook, contract: Contract, topic: str) -> None:
        """What the topic's writer rejected, into quarantine."""
        from tallyclerk.sinks.lake_stream import LakeStream
        from tallyclerk.sinks.quarantine import quarantine_schema
        from tallyclerk.sources.kafka_decoding import JsonObjects
        from tallyclerk.sources.kafka_messages import KafkaMessages
        from tallyclerk.transfers.kafka_stream import StreamLoad

        with self._reader(topic) as reader:
            if not reader.exists():
                return
            quarantine = self._stream_quarantine(lake, contract)
            dataset = f"{contract.dataset}.dead_letters"
            receipt = StreamLoad(
                reader=reader,
                table=LakeStream(quarantine.uri, dataset=dataset, schema=quarantine_schema(), topic=topic),
                quarantine=quarantine,
                source=lambda offsets, load_id: KafkaMessages(
                    reader=reader, offsets=offsets, decoder=JsonObjects(quarantine_schema()), dataset=dataset,
                    load_id=load_id, by_day=True, max_rejected_ratio=1.0,
                ),
                on_deleted="record",
            ).run()  # fmt: skip
        if not receipt.repeated:
            self.log.info("%s: %s", receipt.load, receipt.ledger)

    def _source(
        self, contract: Contract, reader: KafkaRange, offsets: Offsets, load_id: str, *, expected: int | None = None
    ) -> KafkaMessages:
        from tallyclerk.sources.kafka_messages import KafkaMessages
        from tallyclerk.sources.message_rules import RowRules

        return KafkaMessages(
            reader=reader,
            offsets=offsets,
            decoder=self._decoder(contract),
            rules=None if self.change_events else RowRules(contract),
            dataset=contract.dataset,
            contract_version=contract.version,
            load_id=load_id,
            by_day=self.bounded_by == "stream",
            metadata=self._metadata,
            tombstones=self.tombstones,  # type: ignore[arg-type]
            max_rejected_ratio=self.max_rejected_ratio,
            expected_messages=expected,
            decides={
                "contract": contract.fingerprint,
                "format": self.value_format,
                "change_events": self.change_events,
            },
        )

    def _reading(self, contract: Contract) -> TopicReading:
        return TopicReading(
            contract=str(contract.path.resolve()), value_format=self.value_format, change_events=self.change_events,
            kafka_conn_id=self.kafka_conn_id, registry_conn_id=self.registry_conn_id, commits_topic=self.commits_topic,
        )  # fmt: skip

    def _decoder(self, contract: Contract) -> MessageDecoder:
        from tallyclerk.sources.kafka_decoding import FramedAvro, JsonObjects
        from tallyclerk.sources.message_texts import message_schema, uuid_columns

        target, uuids = message_schema(contract, change_events=self.change_events), uuid_columns(contract)
        if self.value_format == "json":
            return JsonObjects(target, uuids)
        from tallyclerk.hooks.schema_registry import SchemaRegistryHook
        from tallyclerk.sinks.schema_registry import SchemaRegistry

        hook = SchemaRegistryHook(self.registry_conn_id)
        return FramedAvro(target, uuids, SchemaRegistry(hook.url, auth=hook.auth, verify=hook.ca_file or True).schema)

    def _reader(self, topic: str) -> KafkaRange:
        from tallyclerk.sources.kafka_range import KafkaRange

        return KafkaRange(client=self.cluster.client_config, topic=topic)

    def _stream(self, lake: LakeHook, contract: Contract, topic: str) -> LakeStream:
        from tallyclerk.sinks.lake_stream import LakeStream

        return LakeStream(
            lake.uri(self.target), dataset=contract.dataset, schema=self.row_schema(contract), topic=topic
        )

    def _stream_quarantine(self, lake: LakeHook, contract: Contract) -> Quarantine:
        """Beside that of windows, which are replaced by whole days."""
        from tallyclerk.sinks.quarantine import Quarantine

        return Quarantine(f"{self.quarantine_uri(lake, contract)}.stream", dataset=contract.dataset)

    def _stated_offsets(self, topic: str) -> Offsets | None:
        stated = json.loads(self.offsets) if isinstance(self.offsets, str) and self.offsets else self.offsets
        if not stated:
            return None
        assert not isinstance(stated, str)
        try:
            return Offsets(
                topic, {int(partition): (int(start), int(end)) for partition, (start, end) in stated.items()}
            )
        except (ValueError, TypeError, AttributeError):
            raise SpecError(f'offsets={self.offsets!r} is not like {{"0": [start, end]}}.') from None

    @property
    def _metadata(self) -> tuple[str, ...]:
        from tallyclerk.sources.kafka_messages import METADATA_COLUMNS

        if self.metadata_columns is None:
            return METADATA_COLUMNS if self.change_events else ()
        return tuple(self.metadata_columns)

    def _check_choices(self) -> None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        if self.bounded_by == "window" and (self.max_messages is not None or self.start):
            raise SpecError("max_messages and start are of streams; a window is read whole.")


def _by_number(start: Mapping[str, int] | None) -> dict[int, int] | None:
    return None if start is None else {int(partition): int(offset) for partition, offset in start.items()}
