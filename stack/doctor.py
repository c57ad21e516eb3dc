"""What this machine lacks, and how to get it: `make doctor`.

Runs before anything is installed, so it needs nothing but the standard library. The checks take their facts as arguments; `gather` in
`stack.machine` collects them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stack import browser
from stack.machine import Listener, Machine, gather
from stack.settings import Settings, load_settings

NEEDED_MEMORY_MIB = 8300
"""All services at rest, and a Spark driver with its executor."""
NEEDED_DISK_MIB = 7500
"""Environments, jars, and room for the demo's data."""
NEEDED_JAVA = 17
PYTHONS = ((3, 11), (3, 12))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know; `is_lack` when the stack cannot work so."""

    what: str
    remedy: str
    is_lack: bool = True


def check_python(version: tuple[int, int]) -> Iterator[Finding]:
    if version not in PYTHONS:
        yield Finding(
            f"Python {version[0]}.{version[1]} is not 3.11 or 3.12",
            "apt install python3.11 python3.11-venv, or set PYTHON=/path/to/python3.11",
        )


def check_java(versions: Mapping[str, int]) -> Iterator[Finding]:
    """:param versions: major version by executable, of every Java found."""
    if NEEDED_JAVA in versions.values():
        return
    found = ", ".join(f"{path} is {version}" for path, version in versions.items()) or "none"
    yield Finding(
        f"no Java {NEEDED_JAVA} (found: {found}); Cassandra refuses a newer one",
        "apt install openjdk-17-jre-headless, or set JAVA_HOME to a Java 17",
    )


def check_programs(found: Mapping[str, str | None], *, uid: int) -> Iterator[Finding]:
    """:param found: path by program name, None when it is not on PATH."""
    packages = {"mvn": "maven", "make": "make", "bash": "bash"}
    if uid == 0:
        packages["setpriv"] = "util-linux"  # PostgreSQL refuses to run as root
    for program, package in packages.items():
        if not found.get(program):
            why = " (needed because you are root, and PostgreSQL refuses to be)" if program == "setpriv" else ""
            yield Finding(f"{program} is not on PATH{why}", f"apt install {package}")


def check_browser(path: str | None) -> Iterator[Finding]:
    """:param path: of Chromium, None when it is not on PATH."""
    if not path:
        yield Finding("no chromium, which only `make test` needs; as root it gets it", browser.REMEDY, False)


def check_ports(ports: Mapping[str, int], listeners: Mapping[int, Listener], *, home: Path) -> Iterator[Finding]:
    """:param ports: port by the variable that overrides it. :param listeners: who listens, by port."""
    for variable, port in ports.items():
        listener = listeners.get(port)
        if listener and not (listener.mark or "").startswith(f"{home}:"):
            yield Finding(
                f"port {port} is taken by {listener}", f"stop that process, or set {variable} to a free port in .env"
            )


def check_memory(available_mib: int, ours_mib: int) -> Iterator[Finding]:
    """:param ours_mib: what services of ours that run already hold."""
    if available_mib + ours_mib < NEEDED_MEMORY_MIB:
        yield Finding(
            f"{available_mib} MiB of memory are available, {NEEDED_MEMORY_MIB - ours_mib} are needed",
            "end other programs, or lower TALLYCLERK_CASSANDRA_HEAP (to 512m) and TALLYCLERK_SPARK_WORKER_MEMORY in .env",
        )


def check_disk(free_mib: int, used_by_us_mib: int, *, home: Path) -> Iterator[Finding]:
    if free_mib + used_by_us_mib < NEEDED_DISK_MIB:
        yield Finding(
            f"{free_mib} MiB of disk are free at {home}, about {NEEDED_DISK_MIB - used_by_us_mib} are needed",
            "free some, or set TALLYCLERK_HOME to a folder on another disk",
        )


def check_pid_files(stale: Iterable[Path]) -> Iterator[Finding]:
    """:param stale: pid files whose process does not run."""
    for path in stale:
        yield Finding(
            f"{path.stem} ended without being stopped ({path})", "make up starts it again with its data", False
        )


def diagnose(settings: Settings, machine: Machine) -> list[Finding]:
    """All findings, lacks first."""
    findings: Sequence[Iterator[Finding]] = (
        check_python(machine.python),
        check_java(machine.javas),
        check_programs(machine.programs, uid=machine.uid),
        check_browser(machine.browser),
        check_ports(settings.ports, machine.listeners, home=settings.home),
        check_memory(machine.available_memory_mib, machine.our_memory_mib),
        check_disk(machine.free_disk_mib, machine.our_disk_mib, home=settings.home),
        check_pid_files(machine.stale_pid_files),
    )
    return sorted((finding for check in findings for finding in check), key=lambda finding: not finding.is_lack)


def report(settings: Settings) -> int:
    """Prints the findings; 1 when something is missing."""
    findings = diagnose(settings, gather(settings))
    for finding in findings:
        print(f"{'LACK' if finding.is_lack else 'note'}  {finding.what}\n      → {finding.remedy}")
    lacks = sum(finding.is_lack for finding in findings)
    print(f"{lacks} lacks" if lacks else "this machine has what the stack needs")
    return 1 if lacks else 0


if __name__ == "__main__":
    sys.exit(report(load_settings(make_secrets=False)))
