"""How far the speed layer was from the truth."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.core.receipt import load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import DriftError, NotSignedError, SpecError
from tallyclerk.lineage.telling import TellsLineage
from tallyclerk.operators.metrics import tell
from tallyclerk.transfers.kafka_to_cassandra import FOUR_DAYS_SECONDS

if TYPE_CHECKING:
    import pyarrow as pa
    from airflow.sdk import Context

    from tallyclerk.contracts import Contract
    from tallyclerk.operators.kpi_drift import KpiDrift
    from tallyclerk.serving.kpi_view import KpiView
    from tallyclerk.sinks.lake_table import LakeTable

_LOOK_SECONDS = 2.0


class ReconcileOperator(TellsLineage, BaseOperator):
    """Compare the batch layer's KPIs of closed days with the speed layer's, customer by customer, and record what differs.

    Both sides are read from Cassandra: they are what the view shows of a day before and after it is closed. (That Cassandra's batch
    rows are the lake's is :class:`~tallyclerk.operators.check_totals.CheckTotalsOperator`'s matter.) The batch layer is the truth,
    and answers for the day whatever is found here.

    The differing customers of a day become that day's rows of a Delta table, in one commit whose ledger counts all customers: read =
    written (differ) + filtered (agree). Comparing the same rows again writes nothing. With ``details``, a second table,
    ``<target>_lines``, has the single sales that only one layer has, or that have two amounts; it is empty for customers of whom
    both have the same sales, and then the speed layer itself has lost or doubled some (or they came too late for it).

    A day of which the speed layer holds nothing, or too old to be held whole, is ``not_streamed``: it is warned of, and a
    drift that was recorded earlier stays.

    :param days: ISO dates. Templated.
    :param contract: path of the batch KPIs' contract. Templated.
    :param target: the table of drift; ``/data/reconciliation/<dataset>`` when None. Templated.
    :param details: path of the sales' contract, to compare single sales; its ``kafka`` property names their topic. Templated.
    :param sales: the lake's table of cleaned sales, for ``details``. Templated.
    :param topic: instead of the contract's. Templated.
    :param keyspace: instead of the contract's. Templated.
    :param max_drift_rows, max_drift_ratio: of a day's customers, how many, and what share of them, may differ; None is no limit.
    :param on_drift: ``fail`` or ``warn`` where there are more.
    :param settle_seconds: for how long a day that differs is compared again: the day's last sales may be on their way still.
    :param require_stream: treat ``not_streamed`` as drift.
    :param speed_ttl_seconds: of the speed layer's rows, the drain's ``ttl_seconds``; a day that began longer ago has begun to expire. None: rows stay.
    :return: for each day its ``status`` (``agrees``, ``drift``, ``not_streamed``), counts by outcome, and the receipt.
    :raises DriftError: there is more drift than allowed, after it was recorded.
    :raises NotSignedError: a day is not closed.
    """

    template_fields: Sequence[str] = ("days", "contract", "target", "details", "sales", "topic", "keyspace")

    def __init__(
        self, *, days: Sequence[str], contract: str, target: str | None = None, details: str | None = None,
        sales: str = "/data/processed/transactions", topic: str | None = None, keyspace: str | None = None,
        max_drift_rows: int | None = None, max_drift_ratio: float | None = 0.0, on_drift: str = "fail",
        settle_seconds: float = 0.0, require_stream: bool = False, speed_ttl_seconds: float | None = FOUR_DAYS_SECONDS,
        hdfs_conn_id: str = "hdfs_default", cassandra_conn_id: str = "cassandra_default",
        kafka_conn_id: str = "kafka_default", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.days, self.contract, self.target, self.details = days, contract, target, details
        self.sales, self.topic, self.keyspace = sales, topic, keyspace
        self.max_drift_rows, self.max_drift_ratio, self.on_drift = max_drift_rows, max_drift_ratio, on_drift
        self.settle_seconds = settle_seconds
        self.require_stream, self.speed_ttl_seconds = require_stream, speed_ttl_seconds
        self.hdfs_conn_id, self.cassandra_conn_id, self.kafka_conn_id = hdfs_conn_id, cassandra_conn_id, kafka_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from tallyclerk.contracts import load_contract

        if self.on_drift not in ("fail", "warn"):
            raise SpecError(f"on_drift={self.on_drift!r} is not one of fail, warn.")
        contract = load_contract(self.contract)
        found: dict[str, Any] = {}
        for compared in self._compared(contract, [Window.of_day(day) for day in sorted(set(self.days))]):
            found[compared.window.key] = facts = self._record(contract, compared)
            self.log.info("%s: %s", load_name(contract.dataset, compared.window), _sentence(facts))
        self._tell(contract.dataset, found)
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"days": found}
        self._judge(found, f"{self._target(contract)}")
        return found

    def _compared(self, contract: Contract, windows: Sequence[Window]) -> Iterator[_Compared]:
        """Each day's two answers."""
        from tallyclerk.contracts.projections import cassandra_mapping
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.serving.kpi_view import BATCH_TABLE, SPEED_TABLE, KpiView

        keyspace = self.keyspace or cassandra_mapping(contract).keyspace
        with CassandraClusterHook(self.cassandra_conn_id) as cassandra:
            view = KpiView(cassandra.session, keyspace, backoff=cassandra.backoff, address=cassandra.address)
            for window in windows:
                generation = self._generation(view, contract, window)
                drift = self._settled(partial(_compare, view, window))
                address = f"cassandra://{cassandra.address}/{keyspace}"
                sources = (
                    {"uri": f"{address}/{BATCH_TABLE}", "generation": generation, "records": len(drift.batch)},
                    {"uri": f"{address}/{SPEED_TABLE}", "records": len(drift.speed)},
                )
                yield _Compared(window, drift, sources)

    def _settled(self, compare: Callable[[], KpiDrift]) -> KpiDrift:
        """The comparison once it finds nothing, or when the stream has had its time to catch up."""
        deadline = time.monotonic() + self.settle_seconds
        while (drift := compare()).rows and drift.speed and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return drift

    def _generation(self, view: KpiView, contract: Contract, window: Window) -> int:
        closed = view.closed(window.day, window.day).get(window.day)
        if closed is None:
            raise NotSignedError(load=load_name(contract.dataset, window), found="the day is not closed")
        return closed.generation

    def _record(self, contract: Contract, compared: _Compared) -> dict[str, Any]:
        """Commit a day's drift; the day's facts."""
        import pyarrow as pa

        from tallyclerk.operators import kpi_drift
        from tallyclerk.operators.drift_table import replace_drift

        drift, window = compared.drift, compared.window
        if not drift.is_streamed or self._is_expiring(window):
            return {"status": "not_streamed", "customers": drift.customers, "in_speed": len(drift.speed)}
        facts = drift.facts()
        rows = pa.Table.from_pylist(drift.rows, schema=kpi_drift.schema())
        if self.details:
            facts["lines"] = self._record_lines(contract, compared, [row["customer_id"] for row in drift.rows])
        receipt = replace_drift(
            self._table(self._target(contract), f"{contract.dataset}.drift", rows), window, rows, read=drift.customers,
            fingerprint=drift.fingerprint, contract_version=contract.version, sources=compared.sources, details=facts,
        )  # fmt: skip
        self.remember(receipt)
        return {"status": "drift" if drift.rows else "agrees", **facts, "receipt": receipt.as_dict()}

    def _record_lines(self, contract: Contract, compared: _Compared, customers: list[str]) -> dict[str, int]:
        """Commit the single sales behind a day's drift; their counts by outcome, and of customers with none."""
        from tallyclerk.contracts import load_contract
        from tallyclerk.operators import sale_drift
        from tallyclerk.operators.drift_table import replace_drift

        assert self.details is not None
        sales = load_contract(self.details)
        lines = (
            self._differing_sales(sales, compared.window, customers) if customers else sale_drift.schema().empty_table()
        )
        table = self._table(f"{self._target(contract)}_lines", f"{contract.dataset}.drift_lines", lines)
        if customers or table.receipt(compared.window) is not None:  # there, an earlier comparison's lines have to go
            replace_drift(
                table, compared.window, lines, read=len(lines),
                fingerprint=hashlib.sha256(repr(lines.to_pylist()).encode()).hexdigest(),
                contract_version=sales.version, sources=compared.sources, details={},
            )  # fmt: skip
        kinds = Counter(lines["drift"].to_pylist())
        return {
            **{kind: kinds[kind] for kind in sale_drift.KINDS},
            "customers_without": len(set(customers) - set(lines["customer_id"].to_pylist())),
        }

    def _differing_sales(self, sales: Contract, window: Window, customers: list[str]) -> pa.Table:
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook
        from tallyclerk.hooks.lake import LakeHook
        from tallyclerk.operators import sale_drift
        from tallyclerk.operators.check_totals import lake_day
        from tallyclerk.sources.kafka_range import KafkaRange

        topic = self.topic or (sales.kafka.topic if sales.kafka else None)
        if topic is None:
            raise SpecError(f"{sales.path}: has no customProperty 'kafka'; add it, or give the task a topic.")
        columns = ["transaction_id", "household_id", "sales_value"]
        loaded = lake_day(LakeHook(self.hdfs_conn_id).uri(self.sales), window.day, columns)
        with KafkaRange(client=KafkaClusterHook(self.kafka_conn_id).client_config, topic=topic) as reader:
            streamed = sale_drift.streamed_sales(reader, sales, window, customers)
        return sale_drift.compare_sales(sale_drift.of_customers(loaded, customers), streamed)

    def _table(self, path: str, dataset: str, rows: pa.Table) -> LakeTable:
        from tallyclerk.hooks.lake import LakeHook
        from tallyclerk.sinks.lake_table import LakeTable

        return LakeTable(LakeHook(self.hdfs_conn_id).uri(path), dataset=dataset, schema=rows.schema)

    def _target(self, contract: Contract) -> str:
        return self.target or f"/data/reconciliation/{contract.dataset}"

    def _is_expiring(self, window: Window) -> bool:
        """Whether the speed layer's first rows of the day may be gone."""
        if self.speed_ttl_seconds is None:
            return False
        return datetime.now(UTC) >= window.start + timedelta(seconds=self.speed_ttl_seconds)

    def _tell(self, dataset: str, found: dict[str, Any]) -> None:
        """Gauges of the newest day that was compared."""
        compared = [facts for _, facts in sorted(found.items()) if facts["status"] != "not_streamed"]
        values = {"not_streamed_days": float(len(found) - len(compared))}
        if compared:
            newest = compared[-1]
            values |= {
                "drift_rows": float(newest["customers"] - newest["agreeing"]),
                "drift_ratio": newest["drift_ratio"],
                "drift_dollars": float(newest["amount_difference"]),
            }
        tell(dataset, values)

    def _judge(self, found: dict[str, Any], table: str) -> None:
        findings = []
        for day, facts in found.items():
            if facts["status"] == "not_streamed":
                sentence = f"{day}: {_sentence(facts)}"
                self.log.warning("%s. The stream did not run on that day, or its rows have expired.", sentence)
                findings += [sentence] if self.require_stream else []
                continue
            rows = facts["customers"] - facts["agreeing"]
            is_over = (self.max_drift_rows is not None and rows > self.max_drift_rows) or (
                self.max_drift_ratio is not None and facts["drift_ratio"] > self.max_drift_ratio
            )
            findings += [f"{day}: {_sentence(facts)}"] if is_over else []
        if not findings:
            return
        error = DriftError(findings=findings, table=table)
        if self.on_drift == "fail":
            raise error
        self.log.warning("%s", error)


@dataclass(frozen=True, slots=True)
class _Compared:
    window: Window
    drift: KpiDrift
    sources: tuple[dict[str, Any], ...]


def _compare(view: KpiView, window: Window) -> KpiDrift:
    from tallyclerk.operators.kpi_drift import KpiDrift

    return KpiDrift.between(window.day, view.layer("batch", window.day), view.layer("speed", window.day))


def _sentence(facts: dict[str, Any]) -> str:
    if facts["status"] == "not_streamed":
        return f"the speed layer holds {facts['in_speed']:,} of {facts['customers']:,} customers, which is not compared"
    told = (
        f"{facts['agreeing']:,} of {facts['customers']:,} customers agree, {facts['only_in_batch']:,} are only in the batch layer, "
        f"{facts['only_in_speed']:,} only in the speed layer, {facts['different']:,} differ; the speed layer has "
        f"{facts['amount_difference']} dollars more"
    )
    if lines := facts.get("lines"):
        told += (
            f" (sales: {lines['only_in_batch']:,} only in the batch layer, {lines['only_in_stream']:,} only in the topic, "
            f"{lines['different']:,} with two amounts)"
        )
    return told
