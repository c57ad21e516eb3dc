"""Drift between the layers, injected sale by sale, is found to the row; and what is no drift is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger
from airflow.sdk.observability import stats

from tallyclerk.exceptions import DriftError, NotSignedError, SpecError
from tallyclerk.sinks.lake_table import receipts_of
from tests.integration.cassandra.kpi_layers import Kpi
from tests.integration.cassandra.reconciled_day import DRIFT, Reconciled, Sale, kpis, reconciled_day
from tests.running import RunTask

pytestmark = pytest.mark.integration


@pytest.fixture
def reconciled(monkeypatch: pytest.MonkeyPatch, run_task: RunTask) -> Iterator[Reconciled]:
    with reconciled_day(monkeypatch, run_task) as made:
        yield made


class Gauges(NoStatsLogger):
    """Keeps what it is told."""

    def __init__(self, told: dict[str, float]) -> None:
        self._told = told

    def gauge(self, stat: str, value: float, *_: Any, **__: Any) -> None:  # type: ignore[override]
        self._told[stat] = value


def outcome(facts: dict[str, Any]) -> list[int]:
    return [facts[name] for name in ("customers", "agreeing", "only_in_batch", "only_in_speed", "different")]


def test_there_is_no_drift_when_both_layers_got_the_same_sales(reconciled: Reconciled) -> None:
    sales = reconciled.sales(40)
    free = [Sale(900, 1, "0.00", sales[3].at), Sale(901, 99, "0.00", sales[3].at)]
    other_day = [Sale(902, 2, "5.00", sales[-1].at + timedelta(seconds=1))]
    reconciled.batch([*sales, free[0]])
    reconciled.stream([*sales, *sales[:5], *free, *other_day])  # some are sent twice

    gauges: dict[str, float] = {}
    stats.initialize(factory=lambda: Gauges(gauges), export_legacy_names=False)  # as the task runner does
    try:
        run = reconciled.run_task(reconciled.task())
    finally:
        stats.initialize(factory=NoStatsLogger, export_legacy_names=False)
    assert gauges == {
        f"tallyclerk.customer_kpis.{name}": 0.0
        for name in ("drift_rows", "drift_ratio", "drift_dollars", "not_streamed_days")
    }
    facts = run.value[reconciled.day.isoformat()]
    assert (facts["status"], outcome(facts), facts["amount_difference"]) == ("agrees", [8, 8, 0, 0, 0], "0.00")
    assert run.events == {DRIFT.uri: {"days": run.value}}
    assert facts["receipt"]["ledger"] == {"read": 8, "written": 0, "rejected": 0, "filtered": 8, "deduplicated": 0}
    assert reconciled.recorded() == []
    assert reconciled.found()["receipt"] == {**facts["receipt"], "repeated": True}


def test_each_sale_is_named_when_the_layers_got_other_ones(reconciled: Reconciled) -> None:
    sales = reconciled.sales(40)
    only_in_files = [sales[0], sales[9]]  # customers 1 and 2
    dearer = replace(sales[18], amount="9.99")  # customer 3, 2.26 in the files
    free_in_files = sales[27]  # customer 4: 0.00 in the files, thus in the stream only
    only_in_api = [Sale(1000, 5, "4.00", sales[3].at), Sale(1001, 77, "0.50", sales[-1].at)]
    unseen = sales[37]  # customer 6: in the topic, and yet Flink has not counted it
    reconciled.batch([sale for sale in sales if sale != free_in_files])
    streamed = [dearer if sale == sales[18] else sale for sale in sales if sale not in only_in_files]
    streamed += only_in_api
    reconciled.stream([*streamed, *streamed[:3]], counted=[sale for sale in streamed if sale != unseen])
    noise = [Sale(1002, 1, "0.00", sales[3].at), Sale(1003, 1, "5.00", sales[-1].at + timedelta(seconds=1))]
    reconciled.send(b"no JSON", None, b'{"transaction_id": "1"}', *(sale.message for sale in noise))

    with pytest.raises(DriftError, match=r"2 of 9 customers agree, 0 are only in the batch layer, 1 only in the speed"):
        reconciled.found()
    facts = reconciled.found(on_drift="warn")
    assert (facts["status"], outcome(facts)) == ("drift", [9, 2, 0, 1, 6])
    assert facts["receipt"]["repeated"]

    before, after = kpis(sale for sale in sales if sale != free_in_files), kpis(s for s in streamed if s != unseen)
    zero = Kpi(Decimal("0.00"), 0, Decimal(0))
    assert reconciled.recorded() == [
        {
            "date": reconciled.day, "customer_id": customer,
            "drift": "different" if customer in before else "only_in_speed",
            "batch_amount": before[customer].total if customer in before else None, "speed_amount": after[customer].total,
            "amount_difference": after[customer].total - before.get(customer, zero).total,
            "batch_count": before[customer].count if customer in before else None, "speed_count": after[customer].count,
            "count_difference": after[customer].count - before.get(customer, zero).count,
        }
        for customer in ("1", "2", "3", "4", "5", "6", "77")
    ]  # fmt: skip

    def line(sale: Sale, drift: str, loaded: str | None, sent: str | None) -> dict[str, Any]:
        amounts = [amount and Decimal(amount) for amount in (loaded, sent)]
        return {
            "transaction_id": sale.key, "customer_id": str(sale.household), "drift": drift, "batch_amount": amounts[0],
            "stream_amount": amounts[1], "amount_difference": Decimal(sent or 0) - Decimal(loaded or 0),
        }  # fmt: skip

    assert reconciled.recorded("drift_lines") == [
        *(line(sale, "only_in_batch", sale.amount, None) for sale in only_in_files),
        line(dearer, "different", "2.26", "9.99"),
        line(free_in_files, "only_in_stream", None, free_in_files.amount),
        *(line(sale, "only_in_stream", None, sale.amount) for sale in only_in_api),
    ]
    assert facts["lines"] == {"only_in_batch": 2, "only_in_stream": 3, "different": 1, "customers_without": 1}
    difference = sum((kpi.total for kpi in after.values()), Decimal(0)) - sum(kpi.total for kpi in before.values())
    assert facts["amount_difference"] == str(difference)


def test_the_recorded_drift_is_replaced_when_a_correction_heals_it(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales[1:])
    reconciled.stream(sales)
    assert reconciled.found(max_drift_rows=1, max_drift_ratio=0.2)["status"] == "drift"
    assert [len(reconciled.recorded(table)) for table in ("drift", "drift_lines")] == [1, 1]
    reconciled.batch(sales)
    assert reconciled.found()["status"] == "agrees"
    assert [len(reconciled.recorded(table)) for table in ("drift", "drift_lines")] == [0, 0]
    uri = f"{reconciled.layers.hdfs}{reconciled.layers.folder}/drift"
    assert [receipt.ledger.written for receipt in receipts_of(uri)] == [0, 1]


def test_the_task_fails_only_when_more_customers_drift_than_may(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales)
    reconciled.stream(sales[2:])  # two of eight customers
    for limits in (
        {"max_drift_ratio": 0.25}, {"max_drift_ratio": None, "max_drift_rows": 2}, {"max_drift_ratio": None},
    ):  # fmt: skip
        assert reconciled.found(details=None, **limits)["status"] == "drift"
    for limits in (
        {}, {"max_drift_ratio": 0.24}, {"max_drift_ratio": None, "max_drift_rows": 1},
        {"max_drift_ratio": 0.5, "max_drift_rows": 1},
    ):  # fmt: skip
        with pytest.raises(DriftError, match="6 of 8 customers agree"):
            reconciled.found(details=None, **limits)
    assert len(reconciled.recorded()) == 2


def test_the_days_last_sales_are_waited_for_when_the_stream_is_a_little_behind(reconciled: Reconciled) -> None:
    sales = reconciled.sales(20)
    reconciled.batch(sales)
    reconciled.stream(sales, counted=sales[:-2])
    assert reconciled.found(on_drift="warn")["status"] == "drift"
    behind = threading.Timer(5, lambda: reconciled.layers.stream(reconciled.day, kpis(sales)))
    behind.start()
    try:
        assert reconciled.found(settle_seconds=120)["status"] == "agrees"
    finally:
        behind.join()


def test_a_day_is_not_streamed_when_the_speed_layer_has_nothing_of_it(reconciled: Reconciled) -> None:
    reconciled.batch(reconciled.sales(16))
    assert reconciled.found() == {"status": "not_streamed", "customers": 8, "in_speed": 0}
    with pytest.raises(DriftError, match="holds 0 of 8 customers"):
        reconciled.found(require_stream=True)


def test_what_was_recorded_stays_when_the_speed_layers_rows_expire(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales)
    reconciled.stream(sales[2:])
    reconciled.found(on_drift="warn")
    # by now the first of its rows may be gone, which is no drift
    assert reconciled.found(speed_ttl_seconds=3600) == {"status": "not_streamed", "customers": 8, "in_speed": 8}
    assert len(reconciled.recorded()) == 2


def test_nothing_is_compared_when_the_day_is_not_closed(reconciled: Reconciled) -> None:
    sales = reconciled.sales(16)
    reconciled.batch(sales, close=False)
    reconciled.stream(sales)
    with pytest.raises(NotSignedError, match="the day is not closed"):
        reconciled.found()
    with pytest.raises(SpecError, match="on_drift='ignore'"):
        reconciled.found(on_drift="ignore")
