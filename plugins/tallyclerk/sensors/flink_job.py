"""Wait until a Flink job is well, by what it does and not by the word it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from tallyclerk.exceptions import FlinkJobFailedError, FlinkJobNotReadyError

if TYPE_CHECKING:
    from airflow.sdk import Context


class FlinkJobSensor(BaseSensorOperator):
    """Succeeds once the newest job of a name is well:

    * every task runs (a job without a TaskManager says RUNNING too);
    * a checkpoint was completed ``max_checkpoint_age_seconds`` ago or later;
    * Flink restarted it no more than ``max_restarts`` times since this sensor first saw it, and not since the look before;
    * no more than ``max_pending_records`` messages of its topics wait, in two looks one after another (the first tells nothing).

    It is deferred between the looks, and looks only: it neither mends nor resumes.

    :param job_name: as Flink shows it (``pipeline.name``). Templated.
    :param max_restarts: None for as many as there are.
    :param max_pending_records: None: how far it is behind does not matter.
    :return: ``job_id``, ``checkpoint_age_seconds``, ``restarts``, ``pending_records``.
    :raises FlinkJobFailedError: it was restarted more often than allowed.
    :raises FlinkJobNotReadyError: ``timeout`` is over; what it lacks is named.
    """

    template_fields: Sequence[str] = ("job_name",)

    def __init__(
        self,
        *,
        job_name: str,
        max_checkpoint_age_seconds: float = 60,
        max_restarts: int | None = 3,
        max_pending_records: int | None = None,
        poll_interval_seconds: float = 5,
        flink_conn_id: str = "flink_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"timeout": 600, **kwargs})
        self.job_name = job_name
        self.max_checkpoint_age_seconds, self.max_restarts = max_checkpoint_age_seconds, max_restarts
        self.max_pending_records, self.poll_interval_seconds = max_pending_records, poll_interval_seconds
        self.flink_conn_id = flink_conn_id

    def execute(self, context: Context) -> None:
        from tallyclerk.triggers.flink_job_health import FlinkJobHealthTrigger

        trigger = FlinkJobHealthTrigger(
            job_name=self.job_name, max_checkpoint_age_seconds=self.max_checkpoint_age_seconds,
            max_restarts=self.max_restarts, max_pending_records=self.max_pending_records,
            poll_interval_seconds=self.poll_interval_seconds, limit_seconds=float(self.timeout), flink_conn_id=self.flink_conn_id,
        )  # fmt: skip
        self.defer(trigger=trigger, method_name="found")

    def found(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """What the watch ended with."""
        if event["status"] == "restarts":
            raise FlinkJobFailedError(
                job=self.job_name, resumed=event["restarts"], state="RESTARTING", cause=event["message"]
            )
        if event["status"] != "success":
            raise FlinkJobNotReadyError(job=self.job_name, found=event["message"], limit_seconds=event["limit_seconds"])
        self.log.info("%s is well: %s", self.job_name, event["message"])
        return {name: event[name] for name in ("job_id", "checkpoint_age_seconds", "restarts", "pending_records")}
