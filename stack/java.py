"""The Java 17 that runs the services: Cassandra 5 refuses a newer one, Hadoop 3.5 and Spark 4 an older one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from stack.errors import ToolMissingError

NEEDED = 17
INSTALLED = Path("/usr/lib/jvm")
"""Where distributions put it."""


@cache
def java() -> str:
    """The path of a Java 17: JAVA_HOME, then PATH, then where distributions put it.

    :raises ToolMissingError: there is none.
    """
    found = {}
    for candidate in candidates():
        version = java_version(candidate)
        if version == NEEDED:
            return candidate
        if version:
            found[candidate] = version
    others = f" (found: {', '.join(f'{path} is {version}' for path, version in found.items())})" if found else ""
    raise ToolMissingError(
        f"no Java {NEEDED} found{others}: install it (Debian: apt install openjdk-17-jre-headless) or set JAVA_HOME"
    )


def java_home() -> str:
    """The folder to hand to programs as JAVA_HOME."""
    return str(Path(java()).resolve().parent.parent)


def java_version(executable: str) -> int | None:
    """The major version of `executable`, None when it does not run."""
    try:
        done = subprocess.run([executable, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match.group(1)) if match else None


def candidates() -> Iterator[str]:
    if home := os.environ.get("JAVA_HOME"):
        yield f"{home}/bin/java"
    if on_path := shutil.which("java"):
        yield on_path
    yield from map(str, sorted(INSTALLED.glob("*17*/bin/java")))
