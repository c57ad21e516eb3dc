"""A REST API to a Kafka topic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.transfers.base import LoadOperator, living_window_of, window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.contracts import Contract
    from tallyclerk.contracts.model import RestDialect
    from tallyclerk.hooks.rest_api import RestApiHook
    from tallyclerk.sources.rest_client import RestClient
    from tallyclerk.transfers.rest_stream import RestLoad

_MODES = ("once", "continuous")
_FORMATS = ("avro", "json")


class RestToKafkaOperator(LoadOperator):
    """Load a paged REST API into a topic, each key once, whatever moves or dies meanwhile.

    Rows, rejected records and the paging position are committed in one Kafka transaction, for every
    ``pages_per_transaction`` pages. A retry goes on at the page that failed; a window that is complete is not sent again. Two
    attempts at once: the later one takes over, the earlier one fails and nothing of its open transaction is seen. Readers must
    be read_committed. How pages are read while rows come and go: :mod:`tallyclerk.sources.rest_pages`.

    ``mode="continuous"`` polls a window that is not over (the UTC day of the run, unless the run's conf names one), giving
    its slot back between polls, until the window's end. A row that appears later than the contract's ``incremental.lookback``
    after its time is left to the batch layer.

    :param http_conn_id: connection of type ``http``; its password is the bearer key.
    :param endpoint: path below the connection's host. Templated.
    :param contract: path of the contract, with ``rest`` and ``kafka`` properties. Templated.
    :param topic: instead of the contract's. Templated.
    :param kafka_conn_id, registry_conn_id: connections.
    :param value_format: ``avro`` or ``json``.
    :param register: ``never``: the schema must be in the registry; ``if_compatible``: a new one that its rule lets pass is
        registered.
    :param request_params: more parameters of each request. Templated.
    :param page_size: rows of a page; the contract's when None.
    :param since_parameter: the API's parameter for a span's begin; the contract's when None.
    :param requests_per_second: pace; None for none. Retry-After is honoured in any case.
    :param pages_per_transaction: pages that a died attempt may have to ask for again; more of them save commits.
    :param max_rejected_ratio: share of records above which the load fails.
    :param verify: want two readings of the list that agree even when nothing moved.
    :param reload: send a complete window again.
    :param mode: ``once`` or ``continuous``.
    :param poll_interval_seconds: from one poll's begin to the next one's.
    :param retry_limit_seconds: how long one request is tried before the task fails and Airflow's retry comes.
    :param rejects_topic: where rejected records go; ``<topic>.rejected`` when None.
    :param commits_topic: where the transactions' receipts stand.
    :return: the receipt as a mapping.
    """

    template_fields: Sequence[str] = ("endpoint", "contract", "topic", "request_params")

    def __init__(
        self, *, endpoint: str, contract: str, http_conn_id: str = "shop_api", topic: str | None = None,
        kafka_conn_id: str = "kafka_default", registry_conn_id: str = "schema_registry_default", value_format: str = "avro",
        register: str = "never", request_params: Mapping[str, str | int] | None = None, page_size: int | None = None,
        since_parameter: str | None = None, requests_per_second: float | None = None, pages_per_transaction: int = 1,
        max_rejected_ratio: float = 0.1, verify: bool = False, reload: bool = False, mode: str = "once",
        poll_interval_seconds: float = 30.0, retry_limit_seconds: float = 120.0, rejects_topic: str | None = None,
        commits_topic: str = "tallyclerk.commits", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.endpoint, self.contract, self.topic, self.request_params = endpoint, contract, topic, request_params
        self.http_conn_id, self.kafka_conn_id, self.registry_conn_id = http_conn_id, kafka_conn_id, registry_conn_id
        self.value_format, self.register, self.page_size = value_format, register, page_size
        self.since_parameter, self.requests_per_second = since_parameter, requests_per_second
        self.pages_per_transaction, self.max_rejected_ratio = pages_per_transaction, max_rejected_ratio
        self.verify, self.reload, self.mode = verify, reload, mode
        self.poll_interval_seconds, self.retry_limit_seconds = poll_interval_seconds, retry_limit_seconds
        self.rejects_topic, self.commits_topic = rejects_topic, commits_topic
        self._is_killed = False
        self._client: RestClient | None = None

    def execute(self, context: Context) -> dict[str, Any] | None:
        if self.mode not in _MODES or self.value_format not in _FORMATS or self.pages_per_transaction < 1:
            raise SpecError(
                f"mode={self.mode!r} must be one of {', '.join(_MODES)}, value_format={self.value_format!r} one of "
                f"{', '.join(_FORMATS)}, and pages_per_transaction={self.pages_per_transaction} at least 1."
            )
        return self._once(context) if self.mode == "once" else self.poll(context)

    def poll(self, context: Context, event: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """One poll; then the task is deferred, or done when the window is over."""
        began = datetime.now(UTC)
        window = living_window_of(context)
        with self._load(window) as (load, hook):
            receipt = load.poll(began)
        if began < window.end:
            self._defer_until(min(began + timedelta(seconds=self.poll_interval_seconds), window.end))
        return self.publish(receipt, context, hook) if receipt else None

    def on_kill(self) -> None:
        """Ask nothing more and commit nothing more. An open transaction is never seen; the next attempt ends it."""
        self._is_killed = True
        if self._client is not None:
            self._client.close()

    def _once(self, context: Context) -> dict[str, Any]:
        window = window_of(context)
        with self._load(window) as (load, hook):
            if load.source.span(window.start, window.end) and window.end > datetime.now(UTC):
                raise SpecError(
                    f"The window {window.key} is not over, so that its rows cannot be complete. Load it when it is, or use "
                    "mode='continuous'."
                )
            return self.publish(load.run(), context, hook)

    def _defer_until(self, moment: datetime) -> None:
        from tallyclerk.triggers.next_poll import NextPollTrigger

        self.defer(trigger=NextPollTrigger(moment.isoformat()), method_name="poll")

    @contextmanager
    def _load(self, window: Window) -> Iterator[tuple[RestLoad, RestApiHook]]:
        """Source and sink, open, and the load that joins them."""
        from tallyclerk.contracts import load_contract
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
        from tallyclerk.hooks.rest_api import RestApiHook
        from tallyclerk.sinks.kafka_transaction import KafkaTransactionSink
        from tallyclerk.sources.rest_client import RetryBudget
        from tallyclerk.sources.rest_pages import RestPages
        from tallyclerk.transfers.message_encoding import row_encoder
        from tallyclerk.transfers.rest_stream import RestLoad

        contract = load_contract(self.contract)
        dialect, topic = self._dialect(contract), self._topic(contract)
        hook, kafka = RestApiHook(self.http_conn_id), KafkaClusterHook(self.kafka_conn_id).client_config
        budget = RetryBudget(seconds=self.retry_limit_seconds)
        client = hook.client(requests_per_second=self.requests_per_second or 0.0, budget=budget)
        sink = KafkaTransactionSink(
            client=kafka, topic=topic, dataset=contract.dataset, encoder=row_encoder(
                contract, topic, value_format=self.value_format, registry_conn_id=self.registry_conn_id,
                register=self.register,
            ),
            rejects_topic=self.rejects_topic, commits_topic=self.commits_topic,
        )  # fmt: skip
        with sink, client:
            self._client = client
            source = RestPages(
                client=client, endpoint=self.endpoint, contract=contract, key=contract.primary_key, dialect=dialect,
                page_size=self.page_size or 0, params=self.request_params or {}, verify=self.verify,
            )  # fmt: skip
            load = RestLoad(
                source=source, sink=sink, client=kafka, contract=contract, window=window, load_id=uuid4().hex,
                fingerprint=self._fingerprint(contract, dialect), pages_per_transaction=self.pages_per_transaction,
                max_rejected_ratio=self.max_rejected_ratio, reload=self.reload, is_stopped=lambda: self._is_killed,
            )  # fmt: skip
            yield load, hook

    def _dialect(self, contract: Contract) -> RestDialect:
        if contract.rest is None:
            raise SpecError(f"{contract.path}: has no server of type api with the customProperty `rest`; add it.")
        return replace(contract.rest, since=self.since_parameter) if self.since_parameter else contract.rest

    def _topic(self, contract: Contract) -> str:
        if contract.kafka is None:
            raise SpecError(f"{contract.path}: has no customProperty `kafka`; add it under schema[0].customProperties.")
        if contract.kafka.key != contract.primary_key:
            # what was sent is known again by the keys in the topic
            raise SpecError(
                f"{contract.path}: the messages' key {list(contract.kafka.key)} must be the primary key "
                f"{list(contract.primary_key)}, by which a row that comes twice is known."
            )
        return self.topic or contract.kafka.topic

    def _fingerprint(self, contract: Contract, dialect: RestDialect) -> str:
        """Of what decides which messages are sent. The size of pages and their names do not."""
        decides = {
            "contract": contract.fingerprint,
            "endpoint": self.endpoint,
            "params": dict(self.request_params or {}),
            "paging": asdict(dialect),
            "format": self.value_format,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
