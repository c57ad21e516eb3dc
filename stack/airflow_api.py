"""The few calls of Airflow's REST API that the demo needs."""

from __future__ import annotations

from typing import Any

import httpx

from stack.errors import StackError
from stack.services import airflow
from stack.settings import Settings


class AirflowApi:
    """A session of the admin user. Usable as a context manager."""

    def __init__(self, settings: Settings) -> None:
        self._client = httpx.Client(base_url=airflow.url(settings), timeout=60, trust_env=False)
        login = {"username": "admin", "password": settings.secret("AIRFLOW_ADMIN_PASSWORD")}
        token = self._call("POST", "/auth/token", login)["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def __enter__(self) -> AirflowApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def has_dag(self, dag_id: str) -> bool:
        """Whether the DAG processor has read that DAG."""
        return self._client.get(f"/api/v2/dags/{dag_id}").is_success

    def import_errors(self) -> list[str]:
        """File and last line of each DAG file that could not be read."""
        found = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return [f"{error['filename']}: {error['stack_trace'].strip().splitlines()[-1]}" for error in found]

    def is_paused(self, dag_id: str) -> bool:
        return bool(self._call("GET", f"/api/v2/dags/{dag_id}")["is_paused"])

    def unpause(self, dag_id: str) -> None:
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, str]) -> str:
        """Asks for a run; returns its id."""
        run = self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def scheduled_run(self, dag_id: str, day: str) -> str | None:
        """Id of the run whose logical date is that ISO day, however it was made."""
        dates = f"logical_date_gte={day}T00:00:00Z&logical_date_lte={day}T00:00:00Z"
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns?{dates}&order_by=-run_after&limit=1")["dag_runs"]
        return str(found[0]["dag_run_id"]) if found else None

    def run_state(self, dag_id: str, run_id: str) -> str:
        return str(self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State by task id; mapped tasks carry their index."""
        found = self._call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=100")
        return {
            task["task_id"] + (f"[{task['map_index']}]" if task["map_index"] >= 0 else ""): task["state"] or "waiting"
            for task in found["task_instances"]
        }

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise StackError(f"Airflow's API does not answer ({error}): see make status") from error
        if not answer.is_success:
            raise StackError(f"Airflow refused {method} {path}: {answer.status_code} {answer.text[:300]}")
        return answer.json()
