"""Measures of one scrape: gauges with bounded labels, in a registry of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import GaugeMetricFamily

PREFIX = "tallyclerk_"


@dataclass(frozen=True, slots=True)
class Measure:
    """One gauge, in base units: its name (without the prefix), what it says, and the names of its labels."""

    name: str
    meaning: str
    labels: tuple[str, ...] = ()


_LOAD = ("dag", "task", "dataset")
LOAD_ROWS = Measure("load_rows", "Rows of the newest load, by what became of them.", (*_LOAD, "outcome"))
LOAD_SECONDS = Measure("load_seconds", "How long the newest load took.", _LOAD)
LOAD_BYTES = Measure("load_bytes", "What the newest load read, where its source tells.", _LOAD)
LOAD_TIMESTAMP = Measure("load_timestamp_seconds", "When Airflow was told of the newest load.", _LOAD)
WINDOW_END = Measure("load_window_end_seconds", "The end of the newest window that was loaded.", _LOAD)
LEDGER_CLOSES = Measure("load_ledger_closes", "1 when read = written + rejected + filtered + deduplicated.", _LOAD)
FRESHNESS = Measure("freshness_seconds", "Age of the newest window's end; of a stream, of its newest load.", _LOAD)
DRIFT_ROWS = Measure("drift_rows", "Answers of the newest comparison in which the two layers differ.", ("dag", "task"))
LAG_ROWS = Measure("lag_rows", "Messages between a drain's position and the end of its topic.", ("group", "topic"))
SLOT_BYTES = Measure("slot_retained_bytes", "Log that the database keeps for a replication slot.", ("slot",))
SLOT_ACTIVE = Measure("slot_active", "1 while somebody reads from the replication slot.", ("slot",))
FLINK_RUNNING = Measure("flink_running", "1 when every task of the job runs.", ("flink_job",))
FLINK_CHECKPOINT = Measure(
    "flink_checkpoint_age_seconds", "Age of the newest checkpoint; while there is none, of the job.", ("flink_job",)
)
FLINK_RESTARTS = Measure(
    "flink_restarts", "How often Flink has restarted the job since it was submitted.", ("flink_job",)
)
CONNECTOR_TASKS = Measure("connector_tasks", "The connector's tasks, by state.", ("connector", "state"))
CONNECTOR_FAILED = Measure("connector_failed", "1 when the connector itself has failed.", ("connector",))
UP = Measure("up", "1 when the service has answered in time.", ("service",))
ANSWER_SECONDS = Measure("answer_seconds", "How long the service took to answer.", ("service",))

MEASURES: tuple[Measure, ...] = tuple(each for each in list(globals().values()) if isinstance(each, Measure))
"""Every measure there is, for the reference and for what refers to them."""


@dataclass(slots=True, eq=False)
class Measured:
    """Values of one scrape. As a Prometheus collector it yields each measure that has any."""

    values: dict[Measure, dict[tuple[str, ...], float]] = field(default_factory=dict)

    def add(self, measure: Measure, value: float, **labels: str) -> None:
        """Set a value; the labels are those of the measure."""
        self.values.setdefault(measure, {})[tuple(labels[name] for name in measure.labels)] = float(value)

    def take(self, other: Measured) -> None:
        """Add another's values; where both have one, the other's holds."""
        for measure, values in other.values.items():
            self.values.setdefault(measure, {}).update(values)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        for measure, values in self.values.items():
            family = GaugeMetricFamily(PREFIX + measure.name, measure.meaning, labels=measure.labels)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family

    def text(self) -> bytes:
        """Prometheus' text format, version 0.0.4."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)
