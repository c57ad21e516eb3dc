"""Who may see what: Airflow's own permissions, asked through its own dependencies.

Whoever may see the site and the DAGs' list sees the page, with the DAGs that they may read. What stands in the lake and in Cassandra
belongs to no DAG: it is shown to whoever may read assets. Replay is a run of the DAG ``quarantine_replay``: the browser asks Airflow's
API for it, which decides; the form is shown to whom it would be granted.
"""

from __future__ import annotations

from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView, DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import (
    GetUserDep,
    requires_access_asset,
    requires_access_dag,
    requires_access_view,
)
from fastapi import Depends

from tallyclerk.operators.replay import REPLAY_DAG

SITE = [Depends(requires_access_view(AccessView.WEBSITE)), Depends(requires_access_dag("GET"))]
"""Of every route; where the path names a DAG, that one."""
RECEIPTS = [Depends(requires_access_dag("GET", DagAccessEntity.XCOM))]
DATA = [Depends(requires_access_asset("GET"))]


def readable_dags(user: GetUserDep) -> set[str]:
    """The ids of the DAGs that the user may read."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def may_replay(user: GetUserDep) -> bool:
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=DagDetails(id=REPLAY_DAG), user=user
    )


ReadableDags = Annotated[set[str], Depends(readable_dags)]
MayReplay = Annotated[bool, Depends(may_replay)]
