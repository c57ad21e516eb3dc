"""Prometheus and promtool: Debian's, unpacked beside the jars, so that nobody has to be root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from stack.errors import ToolMissingError
from stack.settings import Settings

PACKAGE = "prometheus"


def ensure_prometheus(settings: Settings) -> Path:
    """The folder of `prometheus` and `promtool`.

    :raises ToolMissingError: they are not on PATH, and apt-get cannot get them.
    """
    if (found := shutil.which("prometheus")) and shutil.which("promtool"):
        return Path(found).parent
    target = settings.home / PACKAGE
    if not (target / "usr" / "bin" / "promtool").exists():
        _unpack(target)
    return target / "usr" / "bin"


def _unpack(target: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ToolMissingError(
            "prometheus and promtool are not on PATH, and apt-get cannot fetch them: install Prometheus 2.42 or later"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".prometheus-") as folder:
        # apt's lists in a folder of its own: nobody has to be root, and none has to be there yet
        lists, draft = Path(folder, "lists"), Path(folder, "unpacked")
        (lists / "partial").mkdir(parents=True)
        apt = [
            "apt-get",
            "-qq",
            "-o",
            f"Dir::State::Lists={lists}",
            "-o",
            f"Dir::Cache={folder}",
            "-o",
            "APT::Sandbox::User=",
        ]
        _run([*apt, "update"], folder)
        _run([*apt, "download", PACKAGE], folder)
        _run(["dpkg-deb", "-x", *(str(each) for each in Path(folder).glob(f"{PACKAGE}_*.deb")), str(draft)], folder)
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)


def _run(command: list[str], folder: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolMissingError(
            f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}\nAs root: apt-get install --no-install-recommends {PACKAGE}"
        )
