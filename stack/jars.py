"""Jars and archives from Maven: resolved once per pom, side by side, into a folder per service.

A pom's dependencies land in the folder as jars. What comes as an archive the pom unpacks itself, into `${archives}`, which is
the same folder, in its phase generate-resources; `stack/maven/registry/pom.xml` shows how.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack.errors import ToolMissingError
from stack.settings import Settings

_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# Maven downloads with several connections and needs a core to start: more at once gain nothing
_PARALLEL = 3


def prefetch(settings: Settings, names: Iterable[str]) -> None:
    """Resolves the jars of `stack/maven/<name>/pom.xml` for each name whose pom changed since the last time.

    :raises ToolMissingError: Maven is missing or could not resolve a pom.
    """
    wanted = [name for name in sorted(set(names)) if not _is_current(settings, name)]
    if not wanted:
        return
    maven = shutil.which("mvn")
    if maven is None:
        raise ToolMissingError("Maven (mvn) is not on PATH: install it (Debian: apt install maven)")
    print(f"fetching jars: {', '.join(wanted)}", flush=True)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        for future in [pool.submit(_resolve, settings, maven, name) for name in wanted]:
            future.result()


def pom(settings: Settings, name: str) -> Path:
    return settings.root / "stack" / "maven" / name / "pom.xml"


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _is_current(settings: Settings, name: str) -> bool:
    stamp = settings.jars(name) / ".pom"
    return stamp.exists() and stamp.read_text() == _checksum(pom(settings, name))


def _resolve(settings: Settings, maven: str, name: str) -> None:
    target = settings.jars(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    # beside the target and renamed at the end: an interrupted run leaves no half-filled class path
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as draft:
        command = [maven, "-q", "-B", "-Dstyle.color=never", "-f", str(pom(settings, name))]
        command += [f"-Darchives={draft}/jars", "generate-resources"]
        command += [_COPY, "-DincludeScope=runtime", f"-DoutputDirectory={draft}/jars"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ToolMissingError(
                f"Maven could not resolve {pom(settings, name)}:\n{(done.stdout + done.stderr)[-2000:]}"
            )
        (Path(draft) / "jars" / ".pom").write_text(_checksum(pom(settings, name)))
        shutil.rmtree(target, ignore_errors=True)
        (Path(draft) / "jars").rename(target)
