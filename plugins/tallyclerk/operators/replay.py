"""Before and after a window of files is loaded again with its rejected records mended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from tallyclerk.core.correction import AskedCorrection
from tallyclerk.core.receipt import load_name
from tallyclerk.exceptions import CorrectionsRejectedError, ReconcileError, SpecError, SpecErrors
from tallyclerk.transfers.base import window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.core.receipt import Receipt
    from tallyclerk.core.window import Window
    from tallyclerk.sinks.quarantine import Quarantine
    from tallyclerk.sinks.quarantined_messages import QuarantinedMessage

REPLAY_DAG = "quarantine_replay"
"""The DAG that replays: who starts it from outside, a command or the page, knows it by this."""


def decider_of(context: Context) -> str:
    """Who has started the run; "" where Airflow does not know."""
    return getattr(context["dag_run"], "triggering_user_name", None) or ""


class ReplayOperator(BaseOperator):
    """Base of the operators around a replay: where a data set's rows, rejects and corrections are.

    :param dataset: the contract's name; of a stream's rejects that of its quarantine, without ``.stream``. Templated.
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
                "Streams have no windows: only corrections of their messages can be replayed."
            )
        return receipt

    def _by_kind(
        self, window: Window, asked: Sequence[AskedCorrection]
    ) -> tuple[list[AskedCorrection], list[tuple[QuarantinedMessage, str | None]]]:
        """Corrections of files' records, and those of messages with their messages.

        :raises SpecErrors: a message is not in the day's quarantine, or it is not said which record is meant.
        """
        from tallyclerk.sinks.quarantined_messages import SCHEME, messages_of_day

        if not asked:
            return [], []
        rows, _ = self._quarantine().of_window(window)
        messages = messages_of_day(self._uri(f"/data/quarantine/{self.dataset}.stream"), window)
        of_files, of_messages, findings = [], [], []
        for each in asked:
            found = [message for message in messages if each.is_of(message.source, message.offset)]
            sources = {row["source"] for row in rows if each.is_of(row["source"], row["record_number"])}
            meant = sorted(sources | {message.source for message in found})
            if found and len(meant) > 1:
                findings.append(f"{each.record_number} is in quarantine of {' and of '.join(meant)}; name the source")
            elif found:
                of_messages.append((found[0], each.text))
            elif each.source.startswith(SCHEME) and not sources:
                findings.append(
                    f"{each.source} offset {each.record_number} is not in the day's quarantine; see `airflow tallyclerk quarantine list`"
                )
            else:
                of_files.append(each)
        if findings:
            raise SpecErrors(findings)
        return of_files, of_messages


class RecordCorrectionsOperator(ReplayOperator):
    """Keep corrections of a window's rejected records of files; each later load of the window applies them.

    All of them are kept or none. Skipped when all are of messages, which
    :class:`~tallyclerk.operators.replay_messages.ReplayMessagesOperator` sends. The same corrections again change nothing, so that a retry is safe. Without any the window is
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
        asked, of_messages = self._by_kind(window, AskedCorrection.read_all(stated or []))
        if of_messages and not asked:
            raise AirflowSkipException("All corrections are of messages.")
        before = self._receipt(window)
        table = Corrections(self._uri(f"/data/corrections/{self.dataset}"), dataset=self.dataset)
        if asked:
            kept = table.record(window, asked, self._quarantine(), by=decider_of(context), note=self.note)
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
