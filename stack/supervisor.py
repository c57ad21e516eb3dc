"""Starts services side by side in the order of their dependencies, stops them in reverse, and says how they are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from stack import jars, processes
from stack.errors import NotHealthyError, PortTakenError, ServiceDiedError, StackError
from stack.processes import Identity
from stack.service import Service
from stack.settings import Settings

_TAIL_BYTES = 3000


@dataclass(frozen=True, slots=True)
class Status:
    """How a service is: `up`, `unhealthy` or `down`. `memory_bytes` is its resident memory with its children's."""

    service: Service
    state: str
    pid: int | None = None
    memory_bytes: int = 0


class Supervisor:
    """One instance of the stack. It keeps no process: whoever runs it next finds the services by their pid files."""

    def __init__(self, settings: Settings, *, say: Callable[[str], None] | None = None) -> None:
        """:param say: takes each line of progress; by default it is printed."""
        self.settings = settings
        self._tell = say or _print_line
        self._print_lock = threading.Lock()

    def up(self, services: Sequence[Service]) -> list[Service]:
        """Starts those of `services` (in start order, with all they depend on) that do not run.

        :return: what was started by this call.
        :raises StackError: the first failure; what depends on the failed service was not started, the rest runs.
        """
        for folder in (self.settings.logs, self.settings.run, self.settings.data):
            folder.mkdir(parents=True, exist_ok=True)
        with self._only_one():
            jars.prefetch(self.settings, (name for service in services for name in service.maven))
            futures: dict[str, Future[bool]] = {}
            with ThreadPoolExecutor(max(1, len(services))) as pool:
                for service in services:
                    futures[service.name] = pool.submit(self._bring_up, service, dict(futures))
            errors = [error for future in futures.values() if isinstance(error := future.exception(), Exception)]
        if errors:
            raise next((error for error in errors if not isinstance(error, _NotStartedError)), errors[0])
        return [service for service in services if futures[service.name].result()]

    def down(self, services: Iterable[Service]) -> None:
        """Stops `services` one after the other, in the given order."""
        with self._only_one():
            for service in services:
                self._stop(service)

    def status(self, services: Iterable[Service]) -> list[Status]:
        """How `services` are now."""
        services = list(services)
        with ThreadPoolExecutor(max(1, len(services))) as pool:
            return list(pool.map(self._status, services))

    def identity(self, service: Service) -> Identity | None:
        """The running process of `service`."""
        return processes.running(self._pid_file(service))

    def log(self, service: Service) -> Path:
        return self.settings.logs / f"{service.name}.log"

    def mark(self, service: Service) -> str:
        """What processes of this service of this instance carry in their environment."""
        return f"{self.settings.home}:{service.name}"

    def _pid_file(self, service: Service) -> Path:
        return self.settings.run / f"{service.name}.pid"

    def _bring_up(self, service: Service, earlier: dict[str, Future[bool]]) -> bool:
        for name in service.depends_on:
            if earlier[name].exception() is not None:
                raise _NotStartedError(f"{service.name} was not started, because {name} failed")
        if service.command is None:
            if service.healthy(self.settings, 0):
                return False
            began = time.monotonic()
            service.prepare(self.settings)
            self._say(f"{service.name:<22} done after {time.monotonic() - began:.0f} s")
            return False
        identity = self.identity(service)
        began = time.monotonic()
        child = None
        if identity is None:
            identity, child = self._start(service, service.command)
        self._wait_healthy(service, identity, child)
        self._complete_once(service, identity)
        if child is not None:
            self._say(f"{service.name:<22} up after {time.monotonic() - began:.0f} s, pid {identity.pid}")
        return child is not None

    def _start(
        self, service: Service, command: Callable[[Settings], list[str]]
    ) -> tuple[Identity, subprocess.Popen[bytes]]:
        # children that outlived a killed service would hold its ports and its data
        processes.stop(None, mark=self.mark(service), stop_signal=15, grace_seconds=0)
        for port in service.ports:
            number = self.settings.port(port)
            if holder := processes.listener(number):
                raise PortTakenError(
                    service=service.name, port=number, variable=f"TALLYCLERK_{port}_PORT", holder=holder
                )
        service.configure(self.settings)
        service.prepare(self.settings)
        return processes.start(
            command(self.settings),
            mark=self.mark(service),
            environment={**processes.base_environment(), **service.environment(self.settings)},
            log=self.log(service),
            pid_file=self._pid_file(service),
            folder=self.settings.home,
        )

    def _wait_healthy(self, service: Service, identity: Identity, child: subprocess.Popen[bytes] | None) -> None:
        def settled() -> bool:
            if child is not None:
                child.poll()  # reaps it: a dead child would stay a zombie as long as we run
            return identity.process() is None or service.healthy(self.settings, identity.started)

        if not processes.wait_until(settled, service.start_limit_seconds):
            raise NotHealthyError(
                service=service.name, limit_seconds=service.start_limit_seconds, log=self.log(service)
            )
        if identity.process() is None:
            raise ServiceDiedError(service=service.name, log=self.log(service), tail=_tail(self.log(service)))

    def _complete_once(self, service: Service, identity: Identity) -> None:
        """Runs `complete` once per process, also when an earlier `up` was interrupted before it."""
        done = self.settings.run / f"{service.name}.complete"
        content = json.dumps(asdict(identity))
        if not done.exists() or done.read_text() != content:
            service.complete(self.settings)
            done.write_text(content)

    def _stop(self, service: Service) -> None:
        identity = self.identity(service)
        left = processes.marked(self.mark(service)) if service.command else []
        if identity or left:
            gently = processes.stop(
                identity,
                mark=self.mark(service),
                stop_signal=service.stop_signal,
                grace_seconds=service.stop_grace_seconds,
            )
            self._say(f"{service.name:<22} {'stopped' if gently else 'killed: it did not stop by itself'}")
        self._pid_file(service).unlink(missing_ok=True)

    def _status(self, service: Service) -> Status:
        if service.command is None:
            return Status(service, "up" if service.healthy(self.settings, 0) else "down")
        identity = self.identity(service)
        if identity is None:
            return Status(service, "down")
        state = "up" if service.healthy(self.settings, identity.started) else "unhealthy"
        return Status(service, state, identity.pid, processes.memory_bytes(identity))

    @contextlib.contextmanager
    def _only_one(self) -> Iterator[None]:
        """Two `up` at once would start everything twice: the second waits for the first."""
        self.settings.run.mkdir(parents=True, exist_ok=True)
        with (self.settings.run / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _say(self, line: str) -> None:
        with self._print_lock:
            self._tell(line)


def _print_line(line: str) -> None:
    print(line, flush=True)


class _NotStartedError(StackError):
    """A consequence of another failure, reported only if that one is not."""


def _tail(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return stream.read().decode(errors="replace").strip()
