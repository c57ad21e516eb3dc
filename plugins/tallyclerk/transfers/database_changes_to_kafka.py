"""Rows and changes of a database table to a Kafka topic."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.transfers.base import LoadOperator, window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.contracts import Contract
    from tallyclerk.sources.database_changes import Begin, ChangeSource

_CHOICES = {
    "mode": ("batch", "cdc", "both"),
    "method": ("log", "query"),
    "batch": ("full", "incremental"),
    "value_format": ("avro", "json"),
}


class DatabaseChangesToKafkaOperator(LoadOperator):
    """Send the rows of a PostgreSQL table, its changes, or both to a topic, as change events keyed by the row's key.

    An event has the columns of :func:`~tallyclerk.contracts.changes.change_schema`. A deletion is an event with
    ``__op='d'`` and ``__deleted=true``, and then a tombstone.

    ``mode``: ``batch`` sends rows as they are (op ``r``), all of them or the window's. ``cdc`` sends what changed since the last run;
    the first run, the rows of the last ``lookback_minutes``, or none. ``both`` sends all rows first, and then what changes.

    ``method``: ``log`` follows the database's log through a slot of its own: every committed change once, in the order of the
    commits, deletions too (:class:`~tallyclerk.sources.database_log.LogChanges`). ``query`` needs nothing of the database and sees
    final versions only, **no deletions** (:class:`~tallyclerk.sources.database_xmin.QueryChanges`).

    Guarantee: the changes and the position after them are committed in one Kafka transaction, so that each is visible to
    read_committed readers once, whatever dies when. The position is the data set's, not the window's: a run sends what has
    changed since the run before, and a run that is done and is cleared sends nothing again. Two attempts at once: the later one takes
    over. A first load of more than 800,000 rows, or 256 MB, takes several transactions; dying between them sends rows twice.

    The run's conf ``{"begin_anew": true}`` drops the position: every row is sent again as a read one, and changes from then on.

    :param database_conn_id: connection of type ``postgres``. For the log its login owns the table and has REPLICATION.
    :param table: ``schema.table``. Templated.
    :param contract: path of the contract; its ``kafka`` property names topic and key. Templated.
    :param topic: instead of the contract's. Templated.
    :param kafka_conn_id, registry_conn_id: connections; the registry is asked for Avro only.
    :param dataset: name under which the position is kept; the contract's when None. One for each table and method.
    :param batch: ``full``, or ``incremental``: the rows whose ``incremental_column`` lies in the window.
    :param incremental_column: the contract's when None.
    :param lookback_minutes: see ``mode``.
    :param slot, publication: of the log, made at the first run; ``tallyclerk_<dataset>`` when None.
    :param slot_warn_bytes, slot_fail_bytes: of log that the slot may keep.
    :param truncate: of the table, as the log tells: ``fail`` or ``ignore``.
    :param tombstones: send one after each deletion.
    :param special_values: NaN, infinities and years outside 1–9999: ``fail``, ``null`` or ``reject``.
    :param value_format: ``avro`` or ``json``.
    :param register: ``never``: the schema must be in the registry; ``if_compatible``: a new one that its rule lets pass is
        registered.
    :param continuous: poll until the window (the UTC day in which the run began, unless its conf names one) is over, and give the
        slot back between polls.
    :param poll_interval_seconds: from one poll's begin to the next one's.
    :param rejects_topic, commits_topic: see :class:`~tallyclerk.sinks.kafka_transaction.KafkaTransactionSink`.
    :return: the receipt as a mapping.
    """

    template_fields: Sequence[str] = ("table", "contract", "topic")

    def __init__(
        self, *, database_conn_id: str, table: str, contract: str, topic: str | None = None,
        kafka_conn_id: str = "kafka_default", registry_conn_id: str = "schema_registry_default", dataset: str | None = None,
        mode: str = "cdc", method: str = "log", batch: str = "full", incremental_column: str | None = None,
        lookback_minutes: int = 0, slot: str | None = None, publication: str | None = None,
        slot_warn_bytes: int = 512 << 20, slot_fail_bytes: int = 2 << 30, truncate: str = "fail", tombstones: bool = True,
        special_values: str = "fail", value_format: str = "avro", register: str = "never", continuous: bool = False,
        poll_interval_seconds: float = 30.0, rejects_topic: str | None = None, commits_topic: str = "tallyclerk.commits",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.database_conn_id, self.table, self.contract, self.topic = database_conn_id, table, contract, topic
        self.kafka_conn_id, self.registry_conn_id, self.dataset = kafka_conn_id, registry_conn_id, dataset
        self.mode, self.method, self.batch = mode, method, batch
        self.incremental_column, self.lookback_minutes = incremental_column, lookback_minutes
        self.slot, self.publication = slot, publication
        self.slot_warn_bytes, self.slot_fail_bytes = slot_warn_bytes, slot_fail_bytes
        self.truncate, self.tombstones, self.special_values = truncate, tombstones, special_values
        self.value_format, self.register = value_format, register
        self.continuous, self.poll_interval_seconds = continuous, poll_interval_seconds
        self.rejects_topic, self.commits_topic = rejects_topic, commits_topic
        self._is_killed = False

    def execute(self, context: Context) -> dict[str, Any] | None:
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        if self.continuous:
            if self.mode == "batch":
                raise SpecError("mode='batch' loads rows once a window; continuous=True is for changes.")
            return self.poll(context)
        return self._load(context, self._window(context), complete=True)

    def poll(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """One poll; then the task is deferred, or done when the window is over."""
        from tallyclerk.triggers.next_poll import NextPollTrigger

        began = datetime.now(UTC)
        window = self._window(context)
        receipt = self._load(context, window, complete=began >= window.end)
        if began < window.end:
            moment = min(began + timedelta(seconds=self.poll_interval_seconds), window.end)
            self.defer(trigger=NextPollTrigger(moment.isoformat()), method_name="poll")
        return receipt

    def stored_columns(self, contract: Contract) -> dict[str, str]:
        from tallyclerk.contracts.changes import change_schema

        return {column.name: str(column.type) for column in change_schema(contract)}

    def on_kill(self) -> None:
        """Commit nothing more. An open transaction is never seen; the next attempt ends it."""
        self._is_killed = True

    def _window(self, context: Context) -> Window:
        """The run's, which names the load. A run that nobody gave one is about now: each such run is a load of its own."""
        run = context["dag_run"]
        if {"date", "window_start", "window_end"} & set(run.conf or {}) or getattr(run, "partition_key", None):
            return window_of(context)
        if self.continuous:
            return Window.of_day(run.run_after.astimezone(UTC).date())
        start, end = run.data_interval_start, run.data_interval_end
        if self.mode == "batch" or (start and end and end > start):
            return window_of(context)
        return Window(run.run_after - timedelta(microseconds=1), run.run_after)

    def _load(self, context: Context, window: Window, *, complete: bool) -> dict[str, Any]:
        from tallyclerk.contracts import load_contract
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
        from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
        from tallyclerk.transfers.change_stream import ChangeLoad
        from tallyclerk.transfers.message_encoding import change_encoder

        contract = load_contract(self.contract)
        hook, topic = KafkaClusterHook(self.kafka_conn_id), self._topic(contract)
        dataset = self.dataset or contract.dataset
        asked_anew = bool((context["dag_run"].conf or {}).get("begin_anew"))
        sink = KafkaTransactionSink(
            client=hook.client_config, topic=topic, dataset=dataset, encoder=change_encoder(
                contract, topic, value_format=self.value_format, registry_conn_id=self.registry_conn_id,
                register=self.register,
            ),
            rejects_topic=self.rejects_topic, commits_topic=self.commits_topic,
            forward=self.mode != "batch",  # its rows leave the position of the changes where it is
        )  # fmt: skip
        with sink:
            load = ChangeLoad(
                sink=sink, contract=contract, window=window, load_id=uuid4().hex,
                # an attempt that has begun anew goes on from where it came to
                source=lambda is_first: self._source(contract, dataset, anew=asked_anew and is_first),
                from_the_first_row=self.mode == "batch", is_stopped=lambda: self._is_killed,
            )  # fmt: skip
            receipt = load.run(complete=complete)
        return self.publish(receipt, context, hook)

    def _source(self, contract: Contract, dataset: str, *, anew: bool) -> ChangeSource:
        from tallyclerk.hooks.relational import RelationalHook
        from tallyclerk.sources.database_batch import TableRows
        from tallyclerk.sources.database_log import LogChanges
        from tallyclerk.sources.database_xmin import QueryChanges

        common: dict[str, Any] = {
            "uri": RelationalHook(self.database_conn_id).conninfo, "table": self.table, "contract": contract,
            "special_values": self.special_values, "dataset": dataset,
        }  # fmt: skip
        if self.mode == "batch":
            return TableRows(
                **common, incremental_column=self._column(contract) if self.batch == "incremental" else None
            )
        begin: Begin = "all" if self.mode == "both" else "recent" if self.lookback_minutes else "nothing"
        common |= {
            "begin": begin, "begin_anew": anew, "lookback_minutes": self.lookback_minutes,
            "incremental_column": self.incremental_column,
        }  # fmt: skip
        if self.method == "query":
            return QueryChanges(**common)
        name = "tallyclerk_" + "".join(sign if sign.isalnum() else "_" for sign in dataset.lower())
        return LogChanges(
            **common, slot=self.slot or name, publication=self.publication or name, truncate=self.truncate,
            tombstones=self.tombstones, slot_warn_bytes=self.slot_warn_bytes, slot_fail_bytes=self.slot_fail_bytes,
        )  # fmt: skip

    def _column(self, contract: Contract) -> str:
        column = self.incremental_column or (contract.incremental.column if contract.incremental else None)
        if column is None:
            raise SpecError("batch='incremental' needs an incremental_column, or a contract with one.")
        return column

    def _topic(self, contract: Contract) -> str:
        topic = self.topic or (contract.kafka.topic if contract.kafka else None)
        if not topic:
            raise SpecError(f"{contract.path}: has no customProperty `kafka`; add it, or give the task a topic.")
        return topic
