"""Wait for the time of the next poll."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

_LONGEST_SLEEP_SECONDS = 30.0


class NextPollTrigger(BaseTrigger):
    """Fires once, at a moment or, when that is past, at once.

    It holds no state, so that a triggerer that restarts or a second one beside it fires no later and does no harm.

    :param moment: ISO 8601, with an offset.
    """

    def __init__(self, moment: str) -> None:
        super().__init__()
        self.moment = moment

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return ("tallyclerk.triggers.next_poll.NextPollTrigger", {"moment": self.moment})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        moment = datetime.fromisoformat(self.moment)
        # in parts: a clock that is set, or a machine that slept, is noticed soon
        while (left := (moment - datetime.now(UTC)).total_seconds()) > 0:
            await asyncio.sleep(min(left, _LONGEST_SLEEP_SECONDS))
        yield TriggerEvent({"status": "success", "message": f"time of the poll of {self.moment}"})
