"""Before and after a window is loaded again with its rejected records mended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.core.correction import AskedCorrection
from tallyclerk.core.receipt import load_name
from tallyclerk.exceptions import CorrectionsRejectedError, ReconcileError, SpecError
from tallyclerk.transfers.base import window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.core.receipt import Receipt
    from tallyclerk.core.window import Window
    from tallyclerk.sinks.quarantine import Quarantine


class ReplayOperator(BaseOperator):
    """Base of the operators around a replay: where a data set's rows, rejects and corrections are.

    :param dataset: the contract's name. Templated.
    :param target: the table that the loads of the data set write; ``/data/raw/<dataset>`` when None. Templated.
    :param hdfs_conn_id: the lake's connection.
    """

    template_fields: Sequence[str] = ("dataset", "target")

    def __init__(
        self, *, dataset: str, target: str | None = None, hdfs_conn_id: str = "hdfs_default", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.dataset, self.target, self.hdfs_conn_id = dataset, target, hdfs_conn_id

    def _uri(self, path: str) -> str:
        from tallyclerk.hooks.lake import LakeHook

        return LakeHook(self.hdfs_conn_id).uri(path)

    def _quarantine(self) -> Quarantine:
        from tallyclerk.sinks.quarantine import Quarantine

        return Quarantine(self._uri(f"/data/quarantine/{self.dataset}"), dataset=self.dataset)

    def _receipt(self, window: Window) -> Receipt:
        """:raises SpecError: the window was never loaded."""
        import pyarrow as pa

        from tallyclerk.sinks.lake_table import LakeTable

        uri = self._uri(self.target or f"/data/raw/{self.dataset}")
        receipt = LakeTable(uri, dataset=self.dataset, schema=pa.schema([])).receipt(window)
        if receipt is None:
            raise SpecError(
                f"{load_name(self.dataset, window)} is not in {uri}. Load it first; what is rejected then can be replayed. "
                "Streams have no windows: send what they rejected to their topic again."
            )
        return receipt


class RecordCorrectionsOperator(ReplayOperator):
    """Keep corrections of a window's rejected records; each later load of the window applies them.

    All of them are kept or none. The same corrections again change nothing, so that a retry is safe. Without any the window is
    only looked at: after a contract was mended, loading again is all that is needed.

    :param corrections: ``[{"source", "record_number", "text"}, ...]``, or the same as JSON text. Templated.
    :param note: why, for those who ask later. Templated.
    :return: ``window``; ``before``, the ledger as it stands; ``corrections``, how many records of the window have one.
    :raises SpecError: a correction is of no rejected record of the window.
    """

    template_fields: Sequence[str] = (*ReplayOperator.template_fields, "corrections", "note")

    def __init__(self, *, corrections: Sequence[Mapping[str, Any]] | str = (), note: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.corrections, self.note = corrections, note

    def execute(self, context: Context) -> dict[str, Any]:
        from tallyclerk.sinks.corrections import Corrections

        window = window_of(context)
        stated = json.loads(self.corrections) if isinstance(self.corrections, str) else self.corrections
        asked = AskedCorrection.read_all(stated or [])
        before = self._receipt(window)
        table = Corrections(self._uri(f"/data/corrections/{self.dataset}"), dataset=self.dataset)
        if asked:
            by = getattr(context["dag_run"], "triggering_user_name", None) or ""
            kept = table.record(window, asked, self._quarantine(), by=by, note=self.note)
        else:
            kept = table.of_window(window)
        self.log.info("%s: %s; %d records have a correction", before.load, before.ledger, len(kept))
        return {"window": window.key, "before": before.ledger.as_dict(), "corrections": len(kept)}


class CheckReplayOperator(ReplayOperator):
    """Hold the reloaded window's ledger against that of before: the same records were read, and each correction has mended its own.

    :param before: the ledger before, as :class:`RecordCorrectionsOperator` returns it. Templated.
    :return: ``window``, ``before`` and ``after`` (ledgers), ``open`` (records still in quarantine), and what the load says of
        its corrections.
    :raises ReconcileError: other records were read than before: a file has changed.
    :raises CorrectionsRejectedError: a corrected record does not fit the contract either. The load itself stands.
    """

    template_fields: Sequence[str] = (*ReplayOperator.template_fields, "before")

    def __init__(self, *, before: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.before = before

    def execute(self, context: Context) -> dict[str, Any]:
        window = window_of(context)
        before = json.loads(self.before) if isinstance(self.before, str) else self.before
        receipt = self._receipt(window)
        after = receipt.ledger.check(load=receipt.load)
        told = receipt.details.get("corrections", {})
        self.log.info("%s: rejected %s, then %s", receipt.load, before["rejected"], after.rejected)
        if after.read != before["read"]:
            raise ReconcileError(
                f"{receipt.load} read {before['read']:,} records before and {after.read:,} now: a file was delivered anew. The "
                "new load stands; corrections of the former file do not apply to it. See what is in quarantine now."
            )
        if told.get("rejected"):
            rows, _ = self._quarantine().of_window(window)
            raise CorrectionsRejectedError(
                load=receipt.load,
                findings=[
                    f"{row['source']} record {row['record_number']}: {row['column']} {row['reason']}: {row['detail']}"
                    for row in rows
                    if row["detail"].startswith("after correction ")
                ],
            )
        return {
            "window": window.key, "before": before, "after": after.as_dict(), "open": after.rejected, "corrections": told,
        }  # fmt: skip
