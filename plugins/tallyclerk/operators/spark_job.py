"""A Spark application for the run's window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowException

from tallyclerk.core.receipt import Receipt
from tallyclerk.lineage.telling import TellsLineage
from tallyclerk.transfers.base import window_of

if TYPE_CHECKING:
    from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
    from airflow.sdk import Context

    from tallyclerk.hooks.spark_application import HeardReceipts


class SparkDayJobOperator(TellsLineage, SparkSubmitOperator):
    """``spark-submit`` with ``--date`` of the run's window, whatever started the run.

    The application's commits are idempotent by day, so that a retry or a second run gives the same rows.
    Parameters are those of the Spark provider's operator. The exit code of the application (``spark_jobs/failures.py``) becomes
    a terminal or a transient error, so that the retry policy repeats only what a retry can mend. The receipts that it hands over
    (``spark_jobs/receipts.py``) are told to OpenLineage.
    """

    _heard: HeardReceipts | None = None

    def execute(self, context: Context) -> Any:
        self.application_args = [*(self.application_args or []), "--date", window_of(context).day.isoformat()]
        try:
            answer = super().execute(context)
        except AirflowException as error:
            from tallyclerk.hooks.spark_application import failure

            if self._hook is None:
                raise
            raise failure(self.name, self._hook) from error
        for facts in self._heard.receipts if self._heard else ():
            self.remember(Receipt.from_dict(facts))
        return answer

    def _get_hook(self) -> SparkSubmitHook:
        """The provider's, whose reading of the application's output is listened in on."""
        from tallyclerk.hooks.spark_application import HeardReceipts

        hook, self._heard = super()._get_hook(), HeardReceipts()
        read, listen = hook._process_spark_submit_log, self._heard.listen
        hook._process_spark_submit_log = lambda itr: read(listen(itr))  # type: ignore[method-assign]
        return hook
