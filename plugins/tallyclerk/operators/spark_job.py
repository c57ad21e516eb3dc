"""A Spark application for the run's window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from tallyclerk.transfers.base import window_of

if TYPE_CHECKING:
    from airflow.sdk import Context


class SparkDayJobOperator(SparkSubmitOperator):
    """``spark-submit`` with ``--date`` of the run's window, whatever started the run.

    The application's commits are idempotent by day, so that a retry or a second run gives the same rows.
    Parameters are those of the Spark provider's operator. The exit code of the application (``spark_jobs/failures.py``) becomes
    a terminal or a transient error, so that the retry policy repeats only what a retry can mend.
    """

    def execute(self, context: Context) -> Any:
        self.application_args = [*(self.application_args or []), "--date", window_of(context).day.isoformat()]
        try:
            return super().execute(context)
        except AirflowException as error:
            from tallyclerk.hooks.spark_application import failure

            if self._hook is None:
                raise
            raise failure(self.name, self._hook) from error
