"""``airflow tallyclerk plan``: what a day's CSV loads would read, before anything is read."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from tallyclerk.cli.console import EXIT_FAILED, EXIT_OK, command
from tallyclerk.cli.lake import print_table, receipts
from tallyclerk.core.window import Window
from tallyclerk.hooks.connections import connections
from tallyclerk.hooks.lake import lake_root
from tallyclerk.hooks.landing import LandingHook


@command
def plan(args: Namespace) -> int:
    """Print each file of the window with size and what a load would do; exit code 1 when a contract has no file."""
    from tallyclerk.contracts import load_contract

    window = Window.of_day(args.date)
    with connections():
        folder = LandingHook().path
    root = lake_root()
    lines: list[list[Any]] = []
    complete = True
    for path in sorted(Path(args.contracts).glob("*.odcs.yaml")):
        contract = load_contract(path)
        if contract.csv is None:
            continue
        pattern = contract.csv.path.replace("{date}", window.day.isoformat())
        files = sorted(Path(folder).glob(pattern))
        complete = complete and bool(files)
        committed = _committed(f"{root}/data/raw/{contract.dataset}", window)
        for file in files:
            lines.append([contract.dataset, window.key, str(file), file.stat().st_size, _action(file, committed)])
        if not files:
            lines.append([contract.dataset, window.key, str(Path(folder, pattern)), 0, "no file: the load would fail"])
    print_table(["dataset", "window", "file", "bytes", "a load would"], iter(lines))
    return EXIT_OK if complete else EXIT_FAILED


def _committed(uri: str, window: Window) -> dict[str, str]:
    """File URI → digest of what the window holds now."""
    for receipt in receipts(uri):
        if receipt.window == window.key:
            return {source["uri"]: source["sha256"] for source in receipt.sources}
    return {}


def _action(file: Path, committed: dict[str, str]) -> str:
    from tallyclerk.sources.landing_file import file_digest

    known = committed.get(file.absolute().as_uri())
    if known is None:
        return "load it"
    return "find it loaded already" if known == file_digest(file) else "replace the window: the file has changed"
