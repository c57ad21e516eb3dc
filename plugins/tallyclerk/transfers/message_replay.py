"""Rejected messages, corrected, to their topic again; and as text, to be corrected.

A replay adds a message and changes none: the load that rejected the former one keeps its ledger, and the topic's next load
counts the new one as any other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.exceptions import SpecError, SpecErrors
from tallyclerk.sinks.message_corrections import Replayed

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts import Contract
    from tallyclerk.core.topic_reading import TopicReading
    from tallyclerk.sinks.kafka_encoding import MessageEncoder
    from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
    from tallyclerk.sinks.quarantined_messages import QuarantinedMessage
    from tallyclerk.sources.kafka_decoding import MessageDecoder

REPLAY_HEADER = "tallyclerk.replay.of"
"""Of a message that was sent again: ``topic/partition:offset`` of the rejected one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageReplay:
    """Sends corrected messages of one topic, each in a Kafka transaction with its receipt.

    Guarantee: each rejected message is replaced once, whoever dies or runs beside: a load is called
    ``<dataset>.replay@<topic>/<partition>:<offset>``, and one that is committed is not sent again.

    :param messages: of one topic and one reading. :param texts: as many, JSON.
    :param register: whether a schema that the registry does not have may be registered, see
        :class:`~tallyclerk.sinks.kafka_encoding.AvroEncoder`.
    """

    messages: Sequence[QuarantinedMessage]
    texts: Sequence[str]
    reading: TopicReading
    register: str = "never"

    def check(self) -> CheckedReplay:
        """Judge and encode all of them; nothing is sent.

        :raises SpecErrors: a text does not fit the contract.
        :raises SpecError: the contract's schema is not the topic's.
        """
        from tallyclerk.contracts import load_contract
        from tallyclerk.sources.message_texts import rows_of

        contract = load_contract(self.reading.contract)
        rows, wrong = rows_of(self.texts, contract, change_events=self.reading.change_events)
        if any(wrong):
            raise SpecErrors([
                f"{message.name}: {mistake}" for message, found in zip(self.messages, wrong, strict=True) for mistake in found
            ])  # fmt: skip
        encoder = self._encoder(contract)
        table = _in_schema(rows)
        encoder.encode(table)
        return CheckedReplay(self, contract, encoder, table)

    def _encoder(self, contract: Contract) -> MessageEncoder:
        from tallyclerk.transfers.message_encoding import change_encoder, row_encoder

        made = change_encoder if self.reading.change_events else row_encoder
        return made(
            contract, self.messages[0].topic, value_format=self.reading.value_format,
            registry_conn_id=self.reading.registry_conn_id, register=self.register,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckedReplay:
    """What :meth:`MessageReplay.check` has found fit to be sent; ``rows`` stand in the messages' order."""

    replay: MessageReplay
    contract: Contract
    encoder: MessageEncoder
    rows: pa.Table

    def send(self) -> Iterator[Replayed]:
        """Send what is not sent yet; where each stands.

        :raises SpecError: a message was replayed already with another text.
        :raises TransientError: Kafka is away, or another attempt took over.
        """
        with self._sink() as sink:
            for place, (message, text) in enumerate(zip(self.replay.messages, self.replay.texts, strict=True)):
                receipt = self._sent(sink, message, text) or sink.commit(
                    self.rows.slice(place, 1),
                    self._receipt(message, text),
                    complete=True,
                    headers={REPLAY_HEADER: message.name},
                )
                yield Replayed(message, text, _place(receipt))

    @contextmanager
    def _sink(self) -> Iterator[KafkaTransactionSink]:
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
        from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink

        reading, topic = self.replay.reading, self.replay.messages[0].topic
        sink = KafkaTransactionSink(
            client=KafkaClusterHook(reading.kafka_conn_id).client_config, topic=topic, dataset=self._dataset,
            encoder=self.encoder, commits_topic=reading.commits_topic,
            rejects_topic=topic,  # nothing is rejected here, and a topic that others write to may have no other
            forward=False,
        )  # fmt: skip
        with sink:
            yield sink

    @property
    def _dataset(self) -> str:
        return f"{self.contract.dataset}.replay"

    def _sent(self, sink: KafkaTransactionSink, message: QuarantinedMessage, text: str) -> Receipt | None:
        """The receipt of a former replay of the message."""
        load = load_name(self._dataset, message.name)
        former = sink.progress(load)
        if former is None:
            return None
        if former.sources[0]["sha256"] != message.sha256:
            sink.restart(load)  # the topic was made anew: it is another message that has this offset
            return None
        if former.fingerprint != _digest(text):
            raise SpecError(
                f"{message.name} was replayed already, as {_place(former)} and with another text; what is in a topic cannot be "
                "taken back. Send a newer message of the same key by its own writer."
            )
        return former

    def _receipt(self, message: QuarantinedMessage, text: str) -> Receipt:
        return Receipt(
            dataset=self._dataset,
            window=message.name,
            ledger=Ledger(read=1, written=1),
            location="",
            load_id=uuid4().hex,
            contract_version=self.contract.version,
            fingerprint=_digest(text),
            sources=({"uri": message.source, "offset": message.offset, "sha256": message.sha256},),
        )


class MessageTexts:
    """Rejected messages as JSON for people, by their topics' readings. Asks the registry for topics in Avro."""

    def __init__(self) -> None:
        self._decoders: dict[TopicReading, MessageDecoder] = {}

    def text_of(self, message: QuarantinedMessage) -> str | None:
        """The message as JSON, as far as it can be read as such; else its text in quarantine (Base64), None for a tombstone.

        :raises ServiceUnavailableError: the registry is away. :raises SpecError: there is no such contract any more.
        """
        from tallyclerk.sources.message_texts import text_of

        if message.value is None:
            return None
        if message.reading is None:
            return message.raw_text
        return text_of(message.value, self._decoder(message.reading)) or message.raw_text

    def _decoder(self, reading: TopicReading) -> MessageDecoder | None:
        if reading.value_format == "json":
            return None
        if reading not in self._decoders:
            self._decoders[reading] = _avro_decoder(reading)
        return self._decoders[reading]


def _avro_decoder(reading: TopicReading) -> MessageDecoder:
    import pyarrow as pa

    from tallyclerk.contracts import load_contract
    from tallyclerk.hooks.schema_registry import SchemaRegistryHook
    from tallyclerk.sinks.schema_registry import SchemaRegistry
    from tallyclerk.sources.kafka_decoding import FramedAvro
    from tallyclerk.sources.message_texts import message_schema, uuid_columns

    contract, hook = load_contract(reading.contract), SchemaRegistryHook(reading.registry_conn_id)
    registry = SchemaRegistry(hook.url, auth=hook.auth, verify=hook.ca_file or True)
    # what is missing is shown as null, to be filled in
    target = [field.with_nullable(True) for field in message_schema(contract, change_events=reading.change_events)]
    return FramedAvro(pa.schema(target), uuid_columns(contract), registry.schema)


def _in_schema(rows: pa.RecordBatch) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_batches([rows])


def _place(receipt: Receipt) -> str:
    """``topic/partition:offset`` of the one message that a replay has sent."""
    offsets = Offsets.from_dict(receipt.details[OFFSETS_KEY])
    ((partition, offset, _),) = offsets
    return f"{offsets.topic}/{partition}:{offset}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
