"""The environment in which `airflow`, `spark-submit` and the tests find this instance of the stack."""

from __future__ import annotations

from stack.services import airflow
from stack.settings import Settings


def shell_environment(settings: Settings) -> dict[str, str]:
    """Variables to add to a shell's. They hold secrets: print them only where the user asked for them."""
    return airflow.environment(settings)
