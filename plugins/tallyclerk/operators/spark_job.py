"""A Spark application for the run's window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

from tallyclerk.transfers.base import window_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class SparkDayJobOperator(SparkSubmitOperator):
    """``spark-submit`` with ``--date`` of the run's window, whatever started the run.

    The application's commits are idempotent by day, so that a retry or a second run gives the same rows.
    Parameters are those of the Spark provider's operator.
    """

    def execute(self, context: Context) -> Any:
        self.application_args = [*(self.application_args or []), "--date", window_of(context).day.isoformat()]
        return super().execute(context)
