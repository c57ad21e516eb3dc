"""Waiting until a connector is what it was asked to be."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import ConnectorFailedError, ConnectorNotReadyError
from tallyclerk.hooks.kafka_connect import FAILED, RUNNING

if TYPE_CHECKING:
    from logging import Logger

    from tallyclerk.hooks.kafka_connect import ConnectorStatus, KafkaConnectHook


@dataclass(slots=True, kw_only=True)
class ConnectorWatch:
    """Waits for one connector, restarting what fails as often as allowed.

    :param restart_budget: how often failed parts may be restarted in this wait; the pauses between grow.
    :param settle_seconds: for how long the state must hold: just after a change Connect still reports the former state.
    :param limit_seconds: for the whole wait.
    """

    hook: KafkaConnectHook
    connector: str
    log: Logger | Any
    restart_budget: int = 3
    settle_seconds: float = 5
    limit_seconds: float = 600
    poll_seconds: float = 1
    restarts: int = field(default=0, init=False)

    def until(self, state: str, *, moving: bool = False) -> None:
        """Returns once the connector and all its tasks have been in ``state`` for the settling time.

        :param moving: wait also until its committed offsets change: it does not only run, it reads.
        :raises ConnectorFailedError: something failed once more than the budget allows, or failed and was not to run.
        :raises ConnectorNotReadyError: the limit is over.
        """
        deadline = time.monotonic() + self.limit_seconds
        since: float | None = None
        first: list[dict[str, Any]] | None = None
        status: ConnectorStatus | None = None
        while time.monotonic() < deadline:
            status = self.hook.status(self.connector)
            if status is None or not status.is_wholly(state):
                since = None
                if status is not None and status.failures and state == RUNNING:
                    self._restart(status)
            else:
                since = time.monotonic() if since is None else since
                if time.monotonic() - since >= self.settle_seconds:
                    if not moving:
                        return
                    offsets = self.hook.offsets(self.connector)
                    if first is not None and offsets != first:
                        return
                    first = offsets if first is None else first
            time.sleep(self.poll_seconds)
        found = str(status) if status else "it does not exist"
        if first is not None:
            found += f", and its offsets stay at {first or 'nothing'}"
        raise ConnectorNotReadyError(
            connector=self.connector, wanted=state, found=found, limit_seconds=self.limit_seconds
        )

    def _restart(self, status: ConnectorStatus) -> None:
        if self.restarts >= self.restart_budget:
            raise ConnectorFailedError(
                connector=self.connector, restarts=self.restarts, failures=[str(part) for part in status.failures]
            )
        self.restarts += 1
        self.log.warning("%s: %s; restart %d of %d", self.connector, status, self.restarts, self.restart_budget)
        self.hook.restart_failed(self.connector)
        self._wait_while_failed(self.settle_seconds * 2 ** (self.restarts - 1))

    def _wait_while_failed(self, limit_seconds: float) -> None:
        """A pause that ends early once the restart is seen; what failed at once is not restarted at once."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            time.sleep(self.poll_seconds)
            status = self.hook.status(self.connector)
            if status is not None and not any(part.state == FAILED for part in (status.connector, *status.tasks)):
                return
