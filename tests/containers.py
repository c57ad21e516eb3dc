"""Services as containers run them, without containers: each on a loopback address of its own, by the command of its image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stack import processes
from stack.container import render_all
from stack.service import Service
from stack.services import SERVICES, postgres
from stack.settings import HOSTS, PORTS, ROOT, Settings, load_settings
from tests.second_stack import free_ports

_UP_WITHIN_SECONDS = 300
_DOWN_WITHIN_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Containers:
    """What runs. ``environ`` is what each of them was given."""

    settings: Settings
    environ: Mapping[str, str]

    def stack(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``python -m stack`` as a container calls it."""
        command = [sys.executable, "-m", "stack", *arguments]
        return subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False)


@contextmanager
def containers(home: Path, *names: str, **options: str) -> Iterator[Containers]:
    """``names``, each once those it depends on can be used; stopped and deleted at the end.

    A name like ``init topics`` is a one-shot container of that command, which waits for all before it.

    :param options: variables without ``TALLYCLERK_``.
    """
    (home / "jars").symlink_to(load_settings().home / "jars")
    environ = {
        **os.environ,
        **{name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)},
        **{name: f"127.0.0.{number}" for number, name in enumerate(HOSTS, start=2)},
        **{f"TALLYCLERK_{name}": value for name, value in options.items()},
        "TALLYCLERK_HOME": str(home),
        "TALLYCLERK_ENV_FILE": str(home / ".env"),
        "TALLYCLERK_CONFIGURED": "1",
    }
    running = Containers(load_settings(environ), environ)
    started: dict[str, subprocess.Popen[bytes]] = {}
    services = {service.name: service for service in SERVICES}
    ready: set[str] = set()

    def wait_for(names: Iterable[str]) -> None:
        for name in names:
            if name not in ready:
                _wait(running, started[name], services[name])
                ready.add(name)

    try:
        if certificates := options.get("TLS"):
            assert running.stack("certificates", certificates).returncode == 0
        render_all(running.settings)
        for name in names:
            if name.startswith("init "):
                wait_for(started)
                done = running.stack(*name.split())
                assert done.returncode == 0, done.stderr
                continue
            wait_for(set(services[name].depends_on) & set(started))
            with (home / f"{name}.log").open("wb") as output:
                command = [sys.executable, "-m", "stack", "exec", name]
                started[name] = subprocess.Popen(
                    command, cwd=ROOT, env=environ, stdout=output, stderr=subprocess.STDOUT
                )
        wait_for(started)
        yield running
    finally:
        for name, child in reversed(started.items()):
            child.send_signal(services[name].stop_signal)
            child.wait(_DOWN_WITHIN_SECONDS)
        shutil.rmtree(postgres.home(running.settings), ignore_errors=True)
        shutil.rmtree(home, ignore_errors=True)


def _wait(running: Containers, child: subprocess.Popen[bytes], service: Service) -> None:
    """Until its container's health check says yes."""
    processes.wait_until(lambda: child.poll() is not None or service.healthy(running.settings, 0), _UP_WITHIN_SECONDS)
    check = running.stack("healthy", service.name)
    log = running.settings.home / f"{service.name}.log"
    assert check.returncode == 0, f"{service.name}, ended with {child.poll()}: {check.stderr}{log.read_text()[-3000:]}"
