"""Load windows of a Delta table into a Cassandra table, so that repeating a load changes nothing.

Delivery guarantee. Each row is an idempotent INSERT at a write timestamp made of the window's end and a generation.
A window's rows are those of the newest generation, whatever the order in which attempts run, retry, overlap or die: older
ones are outranked cell by cell, and rows and cells that a correction dropped are deleted (``cassandra_retract``). A load
counts as done when its generation is signed in ``tallyclerk_loads`` (``cassandra_loads``), which happens last, after
every row was acknowledged and read back. Until then a reader may see old and new rows side by side: Cassandra has no
transaction over partitions; the signature is the mark to wait for.

Two rules that the loader cannot hold alone: no other writer may use the table with the server's clock (such a write
outranks all of these), and a key belongs to one window for ever (a row that moves to an earlier day is outranked by its
own past; the read-back notices and fails).
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tallyclerk.core.ledger import Ledger
from tallyclerk.core.progress import Progress
from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import ConcurrentLoadError, LedgerError, NoInputError, ReconcileError
from tallyclerk.sinks.cassandra_batches import BatchGrouping, batch_statement
from tallyclerk.sinks.cassandra_client import Backoff, BoundedWriter
from tallyclerk.sinks.cassandra_lake import LakeWindow
from tallyclerk.sinks.cassandra_loads import LoadsTable, write_timestamp
from tallyclerk.sinks.cassandra_retract import Retraction, Retractor, encoded_keys
from tallyclerk.sinks.cassandra_table import DEFAULT_REPLICATION, TargetTable
from tallyclerk.sinks.cassandra_target import CassandraTarget
from tallyclerk.sinks.cassandra_values import encode_column, encoders
from tallyclerk.sinks.cassandra_verify import KeyReader, Verification, sampled

if TYPE_CHECKING:
    import pyarrow as pa
    from cassandra.cluster import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UpsertOptions:
    """:param batch_grouping: ``replica_set`` (at most 10 partitions of one replica set in a batch), ``partition`` (one),
        ``none``; see ``cassandra_batches`` for what each costs.
    :param in_flight: statements on the way at a time.
    :param verify_limit_rows: up to here every key is read back, beyond it a sample of about as many.
    :param retraction: how rows are found that a corrected window lost; see ``cassandra_retract``.
    :param reload: write again what is already signed, or go back to an older version.
    :param allow_empty: a window without rows is right.
    """

    batch_grouping: BatchGrouping = "replica_set"
    in_flight: int = 32
    verify_limit_rows: int = 200_000
    retraction: Retraction = "time_travel"
    reload: bool = False
    allow_empty: bool = False
    backoff: Backoff = field(default_factory=Backoff)


class CassandraUpsert:
    """One dataset's way into one table. Errors as in ``cassandra_client.classify``; safe to repeat after any of them.

    :param dataset: name of the data, as in its contract.
    :param address: how messages call the cluster.
    """

    def __init__(
        self, session: Session, target: TargetTable, *, dataset: str, contract_version: str = "",
        options: UpsertOptions | None = None, address: str = "cassandra",
    ) -> None:  # fmt: skip
        self._session, self._target, self._dataset = session, target, dataset
        self._contract_version, self._address = contract_version, address
        self._options = options or UpsertOptions()
        self._table = CassandraTarget(session, target, backoff=self._options.backoff, address=address)

    @cached_property
    def _loads(self) -> LoadsTable:
        return LoadsTable(
            self._session, keyspace=self._target.keyspace, dataset=self._dataset, target=self._target.table,
            backoff=self._options.backoff, address=self._address,
        )  # fmt: skip

    def create(self, replication: Mapping[str, Any] = DEFAULT_REPLICATION) -> None:
        """Make the keyspace, the table, its indexes and the loads table where they are missing; what exists is left as it is."""
        self._table.create(replication, self._loads.create_cql)

    def check_schema(self) -> None:
        """:raises SchemaMismatchError: the live table is not the target."""
        self._table.check_schema()

    def load(self, lake: LakeWindow, window: Window, *, storage_options: dict[str, str] | None = None) -> Receipt:
        """Make the window's rows in Cassandra those of ``lake``; returns the signed receipt.

        :return: ``repeated`` when these very rows are signed already: then nothing was written.
        :raises RecordError: keys are null, contradictory, or a value does not fit; ReconcileError: not all rows came back.
        :raises TerminalError: a newer version was loaded (``reload`` goes back on purpose).
        :raises TransientError: Cassandra or the lake is away, or another attempt was faster.
        """
        started = time.monotonic()
        identity = lake.identity(self._target)
        history = self._loads.history(window)
        signed = history[0].receipt if history else None  # None also while an attempt after it is open
        if signed and history[0].lake.fingerprint == identity.fingerprint and not self._options.reload:
            return signed.as_repeated()
        row_encoders = encoders(self._target, lake.schema)
        counts = lake.count_keys(self._target)
        if not counts.rows and not self._options.allow_empty:
            raise NoInputError(pattern=f"{lake.uri} at version {lake.version}", window=window.key)
        nulls = self._check_values(lake, row_encoders)
        generation, older = self._loads.begin(window, identity, reload=self._options.reload)
        timestamp = write_timestamp(window, generation)
        writer = self._table.writer(self._options.in_flight)
        self._write(lake, row_encoders, writer, timestamp, load_name(self._dataset, window), counts.rows)
        if writer.acknowledged != counts.rows:
            raise LedgerError(
                load=load_name(self._dataset, window), rule="every row of the lake is acknowledged",
                counts={"read": counts.rows, "acknowledged": writer.acknowledged},
            )  # fmt: skip
        retractor = Retractor(writer, self._table.prepared, self._target, timestamp=timestamp)
        with_nulls = [column for column in self._target.columns if nulls[column.name]]
        removed_rows = removed_cells = 0
        if older and self._options.retraction == "table_scan":
            removed_rows, removed_cells = retractor.by_table_scan(self._session, window)
        elif older:
            removed_rows, removed_cells = retractor.by_time_travel(lake, identity, older, with_nulls, storage_options)
        writer.drain()
        verification = self._verify(lake, window, generation, nulls, counts.rows, writer.recoveries)
        receipt = Receipt(
            dataset=self._dataset,
            window=window.key,
            ledger=Ledger(read=counts.rows, written=counts.keys, deduplicated=counts.rows - counts.keys).check(
                load=load_name(self._dataset, window)
            ),
            location=self._table.location,
            version=generation,
            load_id=uuid.uuid4().hex,
            contract_version=self._contract_version,
            fingerprint=identity.fingerprint,
            sources=({"uri": lake.uri, "version": lake.version, "records": counts.rows, "files": len(lake.files)},),
            details={
                "acknowledged_rows": writer.acknowledged,
                "removed_rows": removed_rows,
                "removed_cells": removed_cells,
                "verified_keys": verification.found,
                "verification": "every key" if verification.every_key else "sample",
                "recoveries": writer.recoveries,
                "write_timestamp": timestamp,
                "seconds": round(time.monotonic() - started, 3),
            },
        )
        self._loads.finish(window, generation, receipt)
        return receipt

    def _write(
        self, lake: LakeWindow, row_encoders: list[Any], writer: BoundedWriter, timestamp: int, what: str, total: int
    ) -> None:
        """Send every row."""
        prepared = self._table.prepared(self._target.insert_cql)
        grouping = self._table.grouping(self._options.batch_grouping, [column.name for column in self._target.columns])
        progress = Progress(log, what, total=total)
        stamp = timestamp.to_bytes(8, "big", signed=True)
        for batch in lake.batches(self._sources):
            for rows in grouping.batches(
                zip(*self._columns(batch, row_encoders), [stamp] * batch.num_rows, strict=True)
            ):
                writer.send(batch_statement(prepared, rows), len(rows))
            progress.add(batch.num_rows)
        writer.drain()
        progress.done()

    @property
    def _sources(self) -> list[str]:
        return list(dict.fromkeys(column.source for column in self._target.columns))

    def _check_values(self, lake: LakeWindow, row_encoders: list[Any]) -> dict[str, int]:
        """Encode everything once before the first row goes out (about 1 µs a row); returns the nulls of each column.

        :raises RecordError: a value does not fit.
        """
        nulls = dict.fromkeys((column.name for column in self._target.columns), 0)
        for batch in lake.batches(self._sources):
            self._columns(batch, row_encoders)
            for column in self._target.columns:
                nulls[column.name] += batch.column(column.source).null_count
        return nulls

    def _columns(self, batch: pa.RecordBatch, row_encoders: list[Any]) -> list[list[Any]]:
        return [
            encode_column(column, batch.column(column.source), encoder, is_key=column.name in self._target.primary_key)
            for column, encoder in zip(self._target.columns, row_encoders, strict=True)
        ]

    def _verify(
        self, lake: LakeWindow, window: Window, generation: int, nulls: dict[str, int], rows: int, recoveries: int
    ) -> Verification:
        key = self._target.primary_key
        witness = next((name for name, count in nulls.items() if name not in key and not count), None)
        reader = KeyReader(
            self._session, self._target, witness=witness, timestamp=write_timestamp(window, generation),
            backoff=self._options.backoff, address=self._address,
        )  # fmt: skip
        every = 1 if recoveries else max(1, -(-rows // self._options.verify_limit_rows))
        keys = encoded_keys(lake.batches(list(dict.fromkeys(c.source for c in self._target.key_columns))), self._target)
        asked, found = reader.count(sampled(keys, every=every))
        if asked != found:
            newest = self._loads.history(window)[0].generation
            if newest > generation:
                raise ConcurrentLoadError(
                    load=load_name(self._dataset, window), cause=f"generation {newest} overtook generation {generation}"
                )
            raise ReconcileError(
                f"{self._target.name}, window {window.key}: {found:,} of {asked:,} keys read back bear this load's write "
                f"timestamp {write_timestamp(window, generation)}; the load is not signed. Either acknowledged rows were "
                "lost (run again with reload=True), or a key also belongs to a later window, or another program writes to "
                "this table with the server's clock, which outranks every load."
            )
        return Verification(asked, found, every == 1)
