"""Airflow's REST API, with what the system tests read beyond the demo's calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stack.airflow_api import AirflowApi

_PAGE = 100


class ReadingApi(AirflowApi):
    """The demo's session; but for :meth:`end`, every method here only reads."""

    def end(self, dag_id: str, run_id: str) -> None:
        """Pause the DAG and end its run, whose tasks are killed."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": True})
        self._call("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}", {"state": "failed"})

    def runs(self, dag_id: str) -> Iterator[dict[str, Any]]:
        """All runs, newest first."""
        yield from self._pages(f"/api/v2/dags/{dag_id}/dagRuns?order_by=-run_after", "dag_runs")

    def run_days(self, dag_id: str) -> set[str]:
        """The ISO dates that any run has worked on, by its configuration or its logical date."""
        return {
            (run.get("conf") or {}).get("date") or run["logical_date"][:10]
            for run in self.runs(dag_id)
            if (run.get("conf") or {}).get("date") or run["logical_date"]
        }

    def xcom_keys(self, *, limit: int) -> Iterator[dict[str, Any]]:
        """The newest entries of all DAGs, without their values."""
        pages = self._pages("/api/v2/dags/~/dagRuns/~/taskInstances/~/xcomEntries?order_by=-timestamp", "xcom_entries")
        for _, entry in zip(range(limit), pages, strict=False):
            yield entry

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._call("GET", f"{path}?map_index={map_index}")["value"]

    def _pages(self, path: str, name: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while found := self._call("GET", f"{path}&limit={_PAGE}&offset={offset}")[name]:
            yield from found
            offset += len(found)
