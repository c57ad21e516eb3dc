"""What Airflow does with each kind of failure."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

DEFAULT_RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception="tallyclerk.exceptions.TransientError",
            action=RetryAction.RETRY,
            retry_delay=timedelta(seconds=20),
            reason="a service was away or another attempt was faster; loads are idempotent",
        ),
        RetryRule(
            exception="tallyclerk.exceptions.TerminalError",
            action=RetryAction.FAIL,
            reason="a retry cannot help: see the error for what to do",
        ),
    ],
)
"""Transient errors are retried soon, terminal ones fail at once, anything else follows the task's own settings."""
