"""Processes of ours: started, known again, stopped.

A pid alone names nobody: the kernel gives it to another process, and `kill -0` also answers for a zombie. So a pid file holds the
process' start time too, and every process carries a mark in its environment that its children inherit; by the mark the
children of a killed service are found.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from stack.settings import MARK

# psutil derives the start time from the boot time, which may move by a clock tick
_START_TOLERANCE_SECONDS = 0.5
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Identity:
    """A process, and no later one with the same pid. `started` is in seconds since the epoch."""

    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The running process, or None when it ended, is a zombie, or its pid belongs to another process now."""
        try:
            process = psutil.Process(self.pid)
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return None
            if abs(process.create_time() - self.started) > _START_TOLERANCE_SECONDS:
                return None
        except psutil.NoSuchProcess:
            return None
        return process


def read_identity(pid_file: Path) -> Identity | None:
    """What `pid_file` says, None when it is missing or was not written by us."""
    try:
        content = json.loads(pid_file.read_text())
        return Identity(pid=int(content["pid"]), started=float(content["started"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def running(pid_file: Path) -> Identity | None:
    """The identity in `pid_file` if that very process still runs."""
    identity = read_identity(pid_file)
    return identity if identity and identity.process() else None


def start(
    command: Sequence[str], *, mark: str, environment: Mapping[str, str], log: Path, pid_file: Path, folder: Path
) -> tuple[Identity, subprocess.Popen[bytes]]:
    """Starts `command` in a session of its own, its output appended to `log`, and writes `pid_file`."""
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            env={**environment, MARK: mark},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        started = psutil.Process(child.pid).create_time()
    except psutil.NoSuchProcess:  # reaped already: the caller sees it in `child`
        started = time.time()
    identity = Identity(pid=child.pid, started=started)
    draft = pid_file.with_suffix(".new")
    draft.write_text(json.dumps({"pid": identity.pid, "started": identity.started}))
    draft.replace(pid_file)
    return identity, child


def marked(mark: str) -> list[psutil.Process]:
    """All live processes that carry `mark`: a service and its children, also those that outlived it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark:
                found.append(process)
    return found


def stop(identity: Identity | None, *, mark: str, stop_signal: int, grace_seconds: float) -> bool:
    """Asks the process to end and waits; then ends what is left of it and of its children.

    :return: whether the process ended within `grace_seconds` by itself (True also when it was not running).
    """
    main = identity.process() if identity else None
    ended = True
    if main:
        with contextlib.suppress(psutil.NoSuchProcess):
            main.send_signal(stop_signal)
        ended = wait_until(lambda: identity is None or identity.process() is None, grace_seconds)
    for left in marked(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            left.send_signal(signal.SIGKILL)
    wait_until(lambda: not marked(mark), 30)
    return ended


def wait_until(condition: Callable[[], bool], limit_seconds: float, *, poll_seconds: float = _POLL_SECONDS) -> bool:
    """Asks `condition` until it holds or `limit_seconds` are over; returns its last answer."""
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(poll_seconds)
    return True


def memory_bytes(identity: Identity) -> int:
    """Resident memory of the process and its descendants."""
    process = identity.process()
    if process is None:
        return 0
    total = 0
    for member in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += member.memory_info().rss
    return total


def listener(port: int) -> str | None:
    """Who listens on `port` of this machine, in words; None when nobody does."""
    for connection in psutil.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
            return _describe(connection.pid)
    return None


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a process of another user"
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        command = " ".join(psutil.Process(pid).cmdline())
        return f"pid {pid} ({command[:80]})"
    return f"pid {pid}"


def base_environment() -> dict[str, str]:
    """The caller's environment without what would lead a service astray."""
    unwanted = {"PYTHONPATH", "SPARK_HOME", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "CLASSPATH", "JAVA_TOOL_OPTIONS"}
    # setproctitle, which Airflow uses, overwrites the environment and with it our mark, unless SPT_NOENV is set
    ours = {"SPT_NOENV": "1", "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}
    kept = {k: v for k, v in os.environ.items() if k not in unwanted and not k.startswith(("AIRFLOW_", "AIRFLOW__"))}
    return {**kept, **ours}
