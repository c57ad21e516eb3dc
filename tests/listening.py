"""Where processes of the stack listen, their children included: tasks, Spark drivers and executors."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import psutil

from stack.settings import LOOPBACK, MARK, Settings

_LOOPBACK = (LOOPBACK, f"::ffff:{LOOPBACK}", "::1")


class Listener(NamedTuple):
    service: str
    address: str
    port: int

    @property
    def is_on_loopback(self) -> bool:
        return self.address in _LOOPBACK


def listeners(settings: Settings) -> set[Listener]:
    """All sockets that take connections now."""
    home = f"{settings.home}:"
    ours: dict[int, str] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if (mark := process.environ().get(MARK, "")).startswith(home):
                ours[process.pid] = mark.removeprefix(home)
    return {
        Listener(ours[connection.pid], connection.laddr.ip, connection.laddr.port)
        for connection in psutil.net_connections(kind="inet")
        if connection.pid in ours and connection.status == psutil.CONN_LISTEN
    }
