"""The stack that is up, and a second one with folders and ports of its own that tests may kill."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from stack import processes
from stack.service import dependants
from stack.services import SERVICES, postgres
from stack.settings import LOOPBACK, PORTS, ROOT, Settings, load_settings
from stack.supervisor import Supervisor


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The stack that `make up` started."""
    return load_settings()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def spare(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """A second instance, not started. It is stopped and deleted at the end."""
    home: Path = tmp_path_factory.mktemp("spare")
    # the same jars: what is tested is not Maven
    (home / "jars").symlink_to(settings.home / "jars")
    environ = {
        **os.environ,
        **{name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)},
        "TALLYCLERK_HOME": str(home),
        "TALLYCLERK_ENV_FILE": str(home / ".env"),
        "TALLYCLERK_CASSANDRA_HEAP": "512m",
    }
    supervisor = Supervisor(load_settings(environ, root=ROOT))
    yield supervisor
    supervisor.down(dependants(SERVICES, []))
    shutil.rmtree(postgres.home(supervisor.settings), ignore_errors=True)
    assert not [service.name for service in SERVICES if processes.marked(supervisor.mark(service))]
