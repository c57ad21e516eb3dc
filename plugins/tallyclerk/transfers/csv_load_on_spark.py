"""One load of CSV files by the cluster: specification, spark-submit, receipt."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError, TerminalError
from tallyclerk.sources.csv_spark_spec import refuse_what_spark_cannot, spark_spec
from tallyclerk.transfers.base import spool_directory

if TYPE_CHECKING:
    from tallyclerk.hooks.spark_application import SparkApplicationHook
    from tallyclerk.sinks.lake_table import LakeTable
    from tallyclerk.sources.csv_files import CsvFiles

APPLICATION = Path(__file__).resolve().parents[3] / "spark_jobs" / "load_csv.py"


@dataclass(slots=True, kw_only=True)
class CsvLoadOnSpark:
    """Submits ``spark_jobs/load_csv.py`` and takes its receipt. The guarantees are the job's, and the operator's own.

    :param conf: Spark properties of the application.
    """

    source: CsvFiles
    spark_conn_id: str
    conf: dict[str, str] = field(default_factory=dict)
    _hook: SparkApplicationHook | None = None

    def run(self, window: Window, table: LakeTable, quarantine: str, former: Receipt | None) -> Receipt:
        """Load the window.

        :param former: its receipt when this attempt began; another's of the same load, committed since, is taken.
        :raises SpecError: the engine cannot do what was asked.
        :raises SparkJobError: the data was refused; nothing was committed to the table.
        :raises TransientError: the application was lost, or others were faster; a retry is safe.
        """
        from tallyclerk.hooks.spark_application import SparkApplicationHook

        if not APPLICATION.is_file():
            raise SpecError(f"engine='spark' needs the project's job file, and {APPLICATION} is not there.")
        refuse_what_spark_cannot(self.source, window)
        with spool_directory() as directory:
            document = directory / "load.json"
            spec = spark_spec(
                self.source, window, target=table.uri, quarantine=quarantine, former=former.load_id if former else ""
            )
            document.write_text(json.dumps(spec))
            load = load_name(self.source.contract.dataset, window)
            self._hook = SparkApplicationHook(
                name=f"load_csv {load}",
                conn_id=self.spark_conn_id,
                conf=self.conf,
                application_args=[str(document)],
            )
            receipts = [Receipt.from_dict(facts) for facts in self._hook.run(str(APPLICATION))]
        if len(receipts) == 1:
            return receipts[0]
        committed = table.receipt(window)
        if committed is None or committed.fingerprint != spec["fingerprint"]:
            raise TerminalError(
                f"{load}: the application ended well, but its receipt is neither in its output nor in {table.uri}. "
                "Look at the task's log and clear the task."
            )
        return committed

    def kill(self) -> None:
        """End the application; what it has not committed is not there."""
        if self._hook is not None:
            self._hook.on_kill()
