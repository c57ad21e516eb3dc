"""What Airflow does with each kind of failure, told by its own evaluation of our policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from airflow.sdk import RetryAction

from tallyclerk import exceptions
from tallyclerk.retries import DEFAULT_RETRY_POLICY


def derived(base: type[BaseException]) -> Iterator[type[BaseException]]:
    yield base
    for child in base.__subclasses__():
        yield from derived(child)


def action(kind: type[BaseException]) -> RetryAction:
    # the constructors build sentences from facts; here only the kind counts
    return DEFAULT_RETRY_POLICY.evaluate(kind.__new__(kind), try_number=1, max_tries=3).action


@pytest.mark.parametrize("kind", derived(exceptions.TransientError))
def test_a_transient_error_is_tried_again(kind: type[BaseException]) -> None:
    assert action(kind) is RetryAction.RETRY


@pytest.mark.parametrize("kind", derived(exceptions.TerminalError))
def test_a_terminal_error_fails_at_once(kind: type[BaseException]) -> None:
    assert action(kind) is RetryAction.FAIL


def test_an_error_that_is_not_ours_follows_the_tasks_own_settings() -> None:
    assert action(OSError) is RetryAction.DEFAULT


def test_every_error_of_ours_says_whether_a_retry_helps() -> None:
    recoveries = {exceptions.TransientError, exceptions.TerminalError}
    assert set(exceptions.TallyclerkError.__subclasses__()) == recoveries
