"""Which days a batch has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.exceptions import ReconcileError
from tallyclerk.transfers.base import window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

_NEWEST_COMMITS = 200


class TouchedDaysOperator(BaseOperator):
    """Return the ISO dates that the batch of the run's window has recomputed: the day itself, and those that late or
    corrected rows belong to. They stand in the receipt of the table's commit.

    :param source: the table whose receipt is asked. Templated.
    :param hdfs_conn_id: the lake's connection.
    """

    template_fields: Sequence[str] = ("source",)

    def __init__(self, *, source: str, hdfs_conn_id: str = "hdfs_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source, self.hdfs_conn_id = source, hdfs_conn_id

    def execute(self, context: Context) -> list[str]:
        from tallyclerk.hooks.lake import LakeHook
        from tallyclerk.sinks.lake_table import receipts_of

        window = window_of(context)
        uri = LakeHook(self.hdfs_conn_id).uri(self.source)
        for receipt in receipts_of(uri, limit=_NEWEST_COMMITS):
            if receipt.window == window.key:
                days = sorted({*receipt.details["event_dates"], window.day.isoformat()})
                self.log.info("%s touched %s", receipt.load, ", ".join(days))
                return days
        raise ReconcileError(
            f"{uri} has no receipt for {window.key} in its newest {_NEWEST_COMMITS} commits; run the batch."
        )
