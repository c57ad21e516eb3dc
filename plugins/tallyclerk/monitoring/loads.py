"""Each task's newest load, as a measure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from tallyclerk.monitoring import measures
from tallyclerk.monitoring.measures import Measured

if TYPE_CHECKING:
    from tallyclerk.ui.loads import Comparison, Load


def measure_loads(loads: Iterable[Load], comparisons: Iterable[Comparison], now: datetime) -> Measured:
    """:param now: the instant of the scrape, against which ages are told."""
    found = Measured()
    for load in loads:
        receipt = load.receipt
        where = {"dag": load.dag_id, "task": load.task_id, "dataset": receipt.dataset}
        for outcome, rows in receipt.ledger.as_dict().items():
            found.add(measures.LOAD_ROWS, rows, outcome=outcome, **where)
        found.add(measures.LEDGER_CLOSES, load.closes, **where)
        found.add(measures.LOAD_TIMESTAMP, load.finished_at.timestamp(), **where)
        if "seconds" in receipt.details:
            found.add(measures.LOAD_SECONDS, receipt.details["seconds"], **where)
        if sizes := [source["bytes"] for source in receipt.sources if "bytes" in source]:
            found.add(measures.LOAD_BYTES, sum(sizes), **where)
        if load.data_until is not None:
            found.add(measures.WINDOW_END, load.data_until.timestamp(), **where)
        age = now - (load.data_until or load.finished_at)
        # a window that is not over yet is not old
        found.add(measures.FRESHNESS, max(0.0, age.total_seconds()), **where)
    for each in comparisons:
        if each.status != "not_streamed":
            differing = each.facts["customers"] - each.facts["agreeing"]
            found.add(measures.DRIFT_ROWS, differing, dag=each.dag_id, task=each.task_id)
    return found
