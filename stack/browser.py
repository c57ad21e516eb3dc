"""Chromium for the tests of the page: Debian's, as Playwright's own would come from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from stack.errors import StackError, ToolMissingError

PACKAGES = ("chromium", "fonts-dejavu-core")
ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync")  # fmt: skip
"""Nothing is fetched but what a test asks for; root needs ``--no-sandbox``."""
REMEDY = f"apt-get install --no-install-recommends {' '.join(PACKAGES)}"


def find_browser() -> str | None:
    return shutil.which("chromium")


def ensure_browser() -> str:
    """Chromium's path; root on Debian gets it where it is missing.

    :raises ToolMissingError: it is missing and cannot be got: only tests need it.
    """
    if found := find_browser():
        return found
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ToolMissingError(f"chromium is not on PATH, and the page's tests need it: {REMEDY}")
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        done = subprocess.run(
            command,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ToolMissingError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
    return find_browser() or ""


if __name__ == "__main__":
    try:
        print(ensure_browser())
    except StackError as error:
        sys.exit(str(error))
