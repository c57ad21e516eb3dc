"""Tallyclerk: loads for Apache Airflow in which every row is accounted for."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Describe this provider to Airflow (entry point ``apache_airflow_provider``).

    Airflow calls this at the start of every process, so nothing heavier than a dictionary is built here.
    The document follows ``airflow/provider_info.schema.json``.
    """
    return {
        "package-name": "tallyclerk",
        "name": "Tallyclerk",
        "description": "A Lambda pipeline on Apache Airflow in which every row is accounted for.",
        "cli": ["tallyclerk.cli.definition.get_cli_commands"],
        "connection-types": [],
    }
