"""A second instance of the stack, with folders, ports and secrets of its own, whose services a test may kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from stack import processes
from stack.service import Service, dependants, select
from stack.services import SERVICES, postgres
from stack.settings import LOOPBACK, PORTS, ROOT, load_settings
from stack.supervisor import Supervisor

_DIES_WITHIN_SECONDS = 120


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def second_stack(home: Path, *services: str, root: Path = ROOT, **options: str) -> Iterator[Supervisor]:
    """The instance, with ``services`` and what they depend on started; stopped and deleted at the end.

    :param home: an empty folder of the test's own.
    :param root: a checkout with other configuration files.
    :param options: of the instance, by their variables without ``TALLYCLERK_``: ``CASSANDRA_HEAP="512m"``.
    """
    # the same jars: what is tested is not Maven
    (home / "jars").symlink_to(load_settings().home / "jars")
    environ = {
        **os.environ,
        **{name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)},
        **{f"TALLYCLERK_{name}": value for name, value in options.items()},
        "TALLYCLERK_HOME": str(home),
        "TALLYCLERK_ENV_FILE": str(home / ".env"),
    }
    supervisor = Supervisor(load_settings(environ, root=root))
    try:
        if services:
            supervisor.up(select(SERVICES, services))
        yield supervisor
    finally:
        supervisor.down(dependants(SERVICES, []))
        shutil.rmtree(postgres.home(supervisor.settings), ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)
    assert not [service.name for service in SERVICES if processes.marked(supervisor.mark(service))]


def kill(supervisor: Supervisor, service: Service) -> None:
    """``kill -9``, and wait until the process is gone to its last thread: until then it holds its ports."""
    identity = supervisor.identity(service)
    process = identity.process() if identity else None
    assert process is not None, f"{service.name} does not run"
    process.send_signal(signal.SIGKILL)
    process.wait(_DIES_WITHIN_SECONDS)
