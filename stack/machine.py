"""Facts about this machine, read from /proc: no package is needed, so that it works before the first install."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.browser import find_browser
from stack.java import candidates, java_version
from stack.settings import MARK, Settings

_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp
CGROUPS = Path("/sys/fs/cgroup")
"""Where the kernel tells what a container, or a user's session, may use..."""
OUR_CGROUPS = Path("/proc/self/cgroup")
"""...and which of these groups we are in."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who listens on a port. `mark` is the service of ours it belongs to, None for a stranger."""

    pid: int | None
    command: str = ""
    mark: str | None = None

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.command[:80]})" if self.pid else "a process of another user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What `stack.doctor` judges. Sizes are in MiB."""

    python: tuple[int, int]
    javas: Mapping[str, int]
    programs: Mapping[str, str | None]
    browser: str | None
    uid: int
    listeners: Mapping[int, Listener]
    available_memory_mib: int
    our_memory_mib: int
    free_disk_mib: int
    our_disk_mib: int
    stale_pid_files: tuple[Path, ...]


def gather(settings: Settings) -> Machine:
    """The facts as they are now."""
    existing = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    return Machine(
        python=sys.version_info[:2],
        javas={path: version for path in candidates() if (version := java_version(path))},
        programs={name: shutil.which(name) for name in ("mvn", "make", "bash", "setpriv")},
        browser=find_browser(),
        uid=os.getuid(),
        listeners=listeners(),
        available_memory_mib=_available_memory_mib(),
        our_memory_mib=sum(
            _resident_mib(pid) for pid in _pids() if (mark_of(pid) or "").startswith(f"{settings.home}:")
        ),
        free_disk_mib=shutil.disk_usage(existing).free >> 20,
        our_disk_mib=sum(map(_folder_mib, (settings.home, settings.root / ".venv", settings.root / ".venv-spark"))),
        stale_pid_files=tuple(path for path in sorted(settings.run.glob("*.pid")) if not _is_alive(path)),
    )


def listeners() -> dict[int, Listener]:
    """Every listening TCP port, with its process where we may know it."""
    inodes: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTEN:
                inodes[fields[9]] = int(fields[1].rpartition(":")[2], 16)
    found = {port: Listener(None) for port in inodes.values()}
    for pid in _pids():
        for inode in _socket_inodes(pid):
            if inode in inodes:
                found[inodes[inode]] = Listener(pid, _command(pid), mark_of(pid))
    return found


def mark_of(pid: int) -> str | None:
    """The service of ours that a process belongs to."""
    prefix = f"{MARK}=".encode()
    for variable in _read(pid, "environ").split(b"\0"):
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode()
    return None


def _pids() -> Iterator[int]:
    return (int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal())


def _read(pid: int, name: str) -> bytes:
    """A file of /proc/<pid>; empty when the process ended or is another user's."""
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return b""


def _socket_inodes(pid: int) -> Iterator[str]:
    try:
        descriptors = list(Path("/proc", str(pid), "fd").iterdir())
    except OSError:
        return
    for descriptor in descriptors:
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _resident_mib(pid: int) -> int:
    pages = _read(pid, "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") >> 20 if pages else 0


def _available_memory_mib() -> int:
    """What the machine has left, or less where a limit is nearer: a container's does not show in /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    machine = next((int(line.split()[1]) >> 10 for line in lines if line.startswith("MemAvailable:")), 0)
    return min([machine, *_room_below_limits()])


def _room_below_limits() -> Iterator[int]:
    """For each memory cgroup of ours and those above it that have a limit, in version 2 and 1."""
    for line in OUR_CGROUPS.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, limit, usage, cache = CGROUPS, "memory.max", "memory.current", "inactive_file "
        elif "memory" in controllers.split(","):
            root, limit, usage, cache = (
                CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ",
            )  # fmt: skip
        else:
            continue
        # within a container the path may be the host's, of which only the root is seen
        folder = root / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each.is_relative_to(root) and (each / usage).exists():
                most = (each / limit).read_text().strip() if (each / limit).exists() else "max"
                if most != "max":
                    files = next(
                        (int(text.split()[1]) for text in (each / "memory.stat").read_text().splitlines() if text.startswith(cache)), 0
                    )  # fmt: skip
                    yield (int(most) - int((each / usage).read_text()) + files) >> 20


def _folder_mib(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) >> 20


def _is_alive(pid_file: Path) -> bool:
    try:
        pid = int(json.loads(pid_file.read_text())["pid"])
    except (ValueError, KeyError, FileNotFoundError):
        return False
    return (mark_of(pid) or "").endswith(f":{pid_file.stem}")
