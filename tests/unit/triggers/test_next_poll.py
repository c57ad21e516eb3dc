"""The trigger between two polls."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from airflow._shared.module_loading import import_string

from tallyclerk.triggers.next_poll import NextPollTrigger


def fire(trigger: NextPollTrigger) -> dict[str, str]:
    async def first() -> dict[str, str]:
        async for event in trigger.run():
            return event.payload
        raise AssertionError("it never fired")

    return asyncio.run(asyncio.wait_for(first(), 60))


@pytest.mark.parametrize("seconds", [-3600, 0.3])
def test_it_fires_once_the_moment_has_come(seconds: float) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    assert fire(NextPollTrigger(moment.isoformat()))["status"] == "success"
    assert datetime.now(UTC) >= moment


def test_it_is_the_same_when_the_triggerer_makes_it_anew() -> None:
    path, arguments = NextPollTrigger("2026-03-10T12:00:00+00:00").serialize()
    assert import_string(path)(**arguments).serialize() == (path, arguments)
