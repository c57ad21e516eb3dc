"""Gauges of a data set, sent where Airflow's own metrics go (StatsD, OpenTelemetry); nowhere when it sends none."""

from __future__ import annotations

from collections.abc import Mapping


def tell(dataset: str, values: Mapping[str, float]) -> None:
    """Set ``tallyclerk.<dataset>.<name>`` to each value. In a task's process: the task runner configures the sender.

    :param values: name with its unit (``freshness_seconds``, ``lag_rows``) → value.
    """
    from airflow.sdk.observability import stats

    for name, value in values.items():
        stats.gauge(stats.normalize_name_for_stats(f"tallyclerk.{dataset}.{name}", log_warning=False), value)
