"""What Airflow is told of the page: an application at ``/tallyclerk``, an entry of the navigation, a tab on each DAG."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

PREFIX = "/tallyclerk"

_Message = MutableMapping[str, Any]


async def _application(
    scope: _Message, receive: Callable[[], Awaitable[_Message]], send: Callable[[_Message], Awaitable[None]]
) -> None:
    """Every process of Airflow reads its plugins, tasks too; only the API server's first request needs FastAPI and the page."""
    from tallyclerk.ui.app import application

    await application()(scope, receive, send)


class TallyclerkPlugin(AirflowPlugin):
    """Entry point ``airflow.plugins``."""

    # Airflow declares these lists as an instance's, and reads them from the class
    name = "tallyclerk"
    fastapi_apps = [{"name": "Tallyclerk", "app": _application, "url_prefix": PREFIX}]  # noqa: RUF012
    # the icons are open, as all of `static` is; hrefs are below Airflow's own base address
    external_views = [  # noqa: RUF012
        {
            "name": "Tallyclerk",
            "href": f"{PREFIX}/",
            "destination": "nav",
            "url_route": "tallyclerk",
            "icon": f"{PREFIX}/static/icon.svg",
            "icon_dark_mode": f"{PREFIX}/static/icon-dark.svg",
            "nav_top_level": True,
        },
        {
            "name": "Ledger",
            "href": f"{PREFIX}/dags/{{DAG_ID}}",
            "destination": "dag",
            "url_route": "ledger",
            "icon": f"{PREFIX}/static/icon.svg",
            "icon_dark_mode": f"{PREFIX}/static/icon-dark.svg",
        },
    ]
