"""Rows into a Kafka topic, one transaction a batch, with the account and the cursor inside it (promises P1–P4)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import LedgerError, SpecError, TerminalError
from tallyclerk.sinks.kafka_commits import (
    COMMITS_TOPIC,
    COMPLETE_KEY,
    Commits,
    newest_commits,
    partition_count,
    records_of,
    require_compacted,
)
from tallyclerk.sinks.kafka_delivery import Delivery, flush
from tallyclerk.sinks.kafka_errors import kafka_errors
from tallyclerk.sinks.kafka_producer import TransactionalProducer
from tallyclerk.sinks.quarantine import quarantine_schema

if TYPE_CHECKING:
    import pyarrow as pa
    from confluent_kafka import Producer

    from tallyclerk.sinks.kafka_encoding import MessageEncoder

log = logging.getLogger(__name__)

ACKED_KEY = "acked"
"""In ``Receipt.details``: messages of the load that the data topic acknowledged, tombstones included."""

MAX_TRANSACTION_ROWS = 2_000_000
MAX_TRANSACTION_BYTES = 1 << 30
"""Of the Arrow rows. More does not go into one :meth:`KafkaTransactionSink.commit`: see ``transaction.timeout.ms``."""

_ENCODED_AT_ONCE = 16_384  # rows, so that only few encoded messages are in memory beside the client's queue
_REJECTS_KEY = ("dataset", "window")


class KafkaTransactionSink:
    """Writes one data set's loads to a topic. A context manager; one at a time per data set.

    Guarantee: a batch's rows, its rejects and its commit record become visible to read_committed readers together or not at
    all, and each batch once, whatever dies when. ``transactional.id`` is ``tallyclerk.<dataset>``: entering fences every
    earlier attempt, whose next step then raises :class:`~tallyclerk.exceptions.ConcurrentLoadError`. What was committed is
    read only after that, so that nobody can add to it unseen.

    A load of many rows commits in parts (``complete=False``) that each fit into memory and into ``transaction.timeout.ms``
    (5 minutes); after a crash :meth:`progress` says where to go on.

    :param client: settings of the Kafka client: ``bootstrap.servers``, how to log in, and any of librdkafka's own.
    :param topic: where the rows go; it must exist.
    :param dataset: the contract's name.
    :param encoder: makes messages of rows; only :meth:`commit` needs one.
    :param commits_topic: compacted; all data sets may share it.
    :param rejects_topic: where rejected records go, as JSON of the quarantine's schema; ``<topic>.rejected`` when None.
    :param forward: False for a backfilled window: its transactions leave the data set's cursor as it is.
    :param limit_seconds: how long to wait for the broker at each step.
    """

    def __init__(
        self,
        *,
        client: Mapping[str, Any],
        topic: str,
        dataset: str,
        encoder: MessageEncoder,
        commits_topic: str = COMMITS_TOPIC,
        rejects_topic: str | None = None,
        forward: bool = True,
        limit_seconds: float = 300.0,
    ) -> None:
        if "bootstrap.servers" not in client:
            raise SpecError("The Kafka client has no bootstrap.servers; state host:port in the connection's extra.")
        self.topic, self.dataset, self.forward = topic, dataset, forward
        self.commits_topic, self.rejects_topic = commits_topic, rejects_topic or f"{topic}.rejected"
        self._client, self._encoder, self._limit = dict(client), encoder, limit_seconds
        self._address = str(client["bootstrap.servers"])
        self._producer: TransactionalProducer | None = None
        self._commits = Commits(dataset, 0)
        self._restarted: set[str] = set()

    @property
    def location(self) -> str:
        return f"kafka://{self._address}/{self.topic}"

    @property
    def transactional_id(self) -> str:
        return f"tallyclerk.{self.dataset}"

    def __enter__(self) -> Self:
        """Check the topics, fence other attempts, then read how far the data set has come.

        :raises KafkaRefusedError: a topic is missing, or this login may not use it.
        :raises SpecError: the commits topic is not compacted.
        :raises ServiceUnavailableError: Kafka is away.
        """
        from confluent_kafka.admin import AdminClient

        with kafka_errors(address=self._address, what=f"the topics of {self.dataset!r}"):
            admin = AdminClient(dict(self._client), logger=log)
            for topic in (self.topic, self.rejects_topic, self.commits_topic):
                partition_count(admin, topic, address=self._address, limit_seconds=min(self._limit, 60.0))
            require_compacted(admin, self.commits_topic, address=self._address)
        self._producer = TransactionalProducer(
            self._client, transactional_id=self.transactional_id, limit_seconds=self._limit
        )
        try:
            self._producer.fence_others()
            self._commits = newest_commits(self._client, self.dataset, commits_topic=self.commits_topic)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.close()

    def progress(self, load: str) -> Receipt | None:
        """The receipt of the load's newest transaction, with ``details["complete"]``; None when it has committed nothing.

        :param load: ``dataset@window``.
        """
        return None if load in self._restarted else self._commits.receipt(load)

    def cursor(self) -> dict[str, Any]:
        """The cursor of the data set's newest forward transaction, empty when there was none."""
        return dict(self._commits.cursor)

    def restart(self, load: str) -> None:
        """Let the load be sent (again) from its first row: its next commit counts from zero.

        What it sent before stays in the topic; its new receipt does not name it any more.
        """
        self._restarted.add(load)

    def commit(
        self,
        rows: pa.Table,
        receipt: Receipt,
        *,
        complete: bool,
        rejects: pa.Table | None = None,
        tombstones: pa.BooleanArray | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Send everything in one transaction. Rows keep their order within a partition.

        :param receipt: of the whole load so far: cumulative ledger, the cursor after these rows.
        :param complete: these are the load's last rows. No rows at all are allowed.
        :param rejects: in the quarantine's schema; several rows may tell about one record.
        :param tombstones: as long as ``rows``; where true the message has no value. Tombstones are not counted as written.
        :param headers: of each message of ``rows``.
        :return: the receipt with ``location``, ``version`` (the number of the data set's transaction) and, in ``details``,
            ``offsets`` and ``acked`` of the whole load, and ``complete``.
        :raises LedgerError: the ledger does not close, or has not grown by just these rows. Nothing was sent.
        :raises TransientError: fenced, or Kafka is away. Nothing of this batch is visible, or, when the answer to the commit
            itself got lost, all of it; :meth:`progress` of the next attempt knows.
        :raises TerminalError: Kafka or the encoder refused; nothing of this batch is visible.
        """
        if self._producer is None:
            raise TerminalError("The sink is not open; use it as a context manager.")
        producer = self._producer.messages
        former = self._former(receipt, rows, tombstones)
        _check_growth(
            receipt,
            former.ledger if former else Ledger(),
            written=rows.num_rows - (0 if tombstones is None else tombstones.to_pylist().count(True)),
            rejected=0 if rejects is None else rejects.group_by(["source", "record_number"]).aggregate([]).num_rows,
        )
        details = former.details if former else {}
        with self._producer.transaction(receipt.load):
            sent = self._send(producer, receipt.load, rows, rejects, tombstones, headers)
            offsets = Offsets.from_dict(details[OFFSETS_KEY]).joined(sent.offsets) if former else sent.offsets
            signed = replace(
                receipt,
                location=self.location,
                version=self._commits.transaction + 1,
                quarantine=self._quarantine(rejects, former),
                details={
                    **receipt.details,
                    OFFSETS_KEY: offsets.as_dict(),
                    ACKED_KEY: details.get(ACKED_KEY, 0) + sent.acked,
                    COMPLETE_KEY: complete,
                },
            )
            cursor = receipt.cursor if self.forward else self._commits.cursor
            records = Delivery(producer, topic=self.commits_topic, address=self._address, load=receipt.load)
            records.send(records_of(signed, cursor), partition=self._commits.partition)
            flush(producer, [records], limit_seconds=self._limit, address=self._address)
        self._remember_commit(signed, cursor)
        log.info("%s: transaction %d: %s messages, %s", signed.load, signed.version, f"{sent.acked:,}", signed.ledger)
        return signed

    def _former(self, receipt: Receipt, rows: pa.Table, tombstones: pa.BooleanArray | None) -> Receipt | None:
        """What the load has committed before, when it may go on from there."""
        if receipt.dataset != self.dataset:
            raise SpecError(f"The receipt is of {receipt.dataset!r}, the sink of {self.dataset!r}.")
        if rows.num_rows > MAX_TRANSACTION_ROWS or rows.nbytes > MAX_TRANSACTION_BYTES:
            raise SpecError(
                f"{rows.num_rows:,} rows of {rows.nbytes:,} bytes are too much for one transaction (at most "
                f"{MAX_TRANSACTION_ROWS:,} rows, {MAX_TRANSACTION_BYTES:,} bytes); commit them in parts with complete=False."
            )
        if tombstones is not None and (len(tombstones) != rows.num_rows or tombstones.null_count):
            raise SpecError("The tombstones must say true or false for each row.")
        former = self.progress(receipt.load)
        if former is None:
            return None
        if former.details.get(COMPLETE_KEY):
            raise TerminalError(f"{receipt.load} is committed already; to send it once more, restart it.")
        if Offsets.from_dict(former.details[OFFSETS_KEY]).topic != self.topic:
            raise TerminalError(
                f"{receipt.load} was begun in {former.location}, not in {self.location}. Finish it there, or restart it."
            )
        return former

    def _send(
        self,
        producer: Producer,
        load: str,
        rows: pa.Table,
        rejects: pa.Table | None,
        tombstones: pa.BooleanArray | None,
        headers: Mapping[str, str] | None,
    ) -> Delivery:
        """Rows and rejects, acknowledged to the last; the account of the rows."""
        from tallyclerk.sinks.kafka_encoding import JsonEncoder

        delivery = Delivery(producer, topic=self.topic, address=self._address, load=load)
        for start in range(0, rows.num_rows, _ENCODED_AT_ONCE):
            part = rows.slice(start, _ENCODED_AT_ONCE)
            dead = None if tombstones is None else tombstones.slice(start, _ENCODED_AT_ONCE)
            delivery.send(_messages(self._encoder, part, dead), headers=headers)
        aside = Delivery(producer, topic=self.rejects_topic, address=self._address, load=load)
        if rejects is not None and rejects.num_rows:
            messages = JsonEncoder(quarantine_schema(), _REJECTS_KEY).encode(rejects)
            aside.send(zip(messages.keys.to_pylist(), messages.values.to_pylist(), strict=True))
        flush(producer, [delivery, aside], limit_seconds=self._limit, address=self._address)
        return delivery

    def _remember_commit(self, signed: Receipt, cursor: Mapping[str, Any]) -> None:
        self._restarted.discard(signed.load)
        loads = dict(self._commits.loads)
        loads[signed.load] = signed.as_json().encode()
        self._commits = replace(self._commits, transaction=signed.version, cursor=dict(cursor), loads=loads)

    def _quarantine(self, rejects: pa.Table | None, former: Receipt | None) -> str:
        if rejects is not None and rejects.num_rows:
            return f"kafka://{self._address}/{self.rejects_topic}"
        return former.quarantine if former else ""


def _messages(
    encoder: MessageEncoder, rows: pa.Table, tombstones: pa.BooleanArray | None
) -> Iterator[tuple[bytes, bytes | None]]:
    """Keys and values in the rows' order; a tombstone's other columns are not looked at."""
    import pyarrow.compute as pc

    if tombstones is None or not pc.any(tombstones).as_py():
        messages = encoder.encode(rows)
        return zip(messages.keys.to_pylist(), messages.values.to_pylist(), strict=True)
    living = iter(encoder.encode(rows.filter(pc.invert(tombstones))).values.to_pylist())
    keys = encoder.keys(rows).to_pylist()
    return ((key, None if dead else next(living)) for key, dead in zip(keys, tombstones.to_pylist(), strict=True))


def _check_growth(receipt: Receipt, former: Ledger, *, written: int, rejected: int) -> None:
    """Promise P1: the ledger closes, and these very rows are what it has grown by.

    :raises LedgerError: that is not so.
    """
    receipt.ledger.check(load=receipt.load)
    now, before = receipt.ledger.as_dict(), former.as_dict()
    growth = {name: now[name] - before[name] for name in now}
    if growth["written"] != written or growth["rejected"] != rejected or min(growth.values()) < 0:
        raise LedgerError(
            load=receipt.load,
            counts={**growth, "messages with a value": written, "distinct rejected records": rejected},
            rule="since the load's last commit the ledger grew by what is sent now, and no count fell",
        )
