"""A task in a process of its own that ends at a chosen step, as ``kill -9`` ends it.

Run as a program: ``dying_task.py '{"operator": "module.Class", "arguments": {...}, "date": "2026-03-01", "stop": "..."}'``.
One method is wrapped to find the step; the operator, its files, its commit and the signal are the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

MID_EXTRACT = "in mid extract"
SOME_STAGED = "after some of its files are staged"
BEFORE_COMMIT = "right before its commit"
AFTER_COMMIT = "right after its commit"
MID_LOAD = "in mid load"

_WRITES_BEFORE_DEATH = 30


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(
    owner: type, method: str, *, call: int = 1, after: bool = True, of: Callable[[Any], bool] = lambda _: True
) -> None:
    """Make the ``call``-th call of a method the process's last act; only those on objects that ``of`` names count."""
    original = getattr(owner, method)
    calls = 0

    def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += of(self)
        is_last = calls == call and of(self)
        if is_last and not after:
            die()
        result = original(self, *arguments, **named)
        if is_last:
            die()
        return result

    setattr(owner, method, wrapped)


def die_while_it_spools(source: type) -> None:
    """Make the first rows that a source has spooled the process's last."""
    original = source.extract  # type: ignore[attr-defined]

    def wrapped(self: Any, window: Any, directory: Path) -> Any:
        def watch() -> None:
            while not any(path.stat().st_size for path in directory.glob("*.parquet")):
                time.sleep(0.001)
            die()

        threading.Thread(target=watch, daemon=True).start()
        extract = original(self, window, directory)
        raise AssertionError(f"all {extract.ledger.read} records were read first: give it more to read")

    source.extract = wrapped  # type: ignore[attr-defined]


def arm(stop: str) -> None:
    from deltalake import DeltaTable

    from tallyclerk.sinks.cassandra_client import BoundedWriter
    from tallyclerk.sinks.lake_files import LakeFiles
    from tallyclerk.sources.csv_files import CsvFiles

    def holds_rows(table: DeltaTable | LakeFiles) -> bool:
        return "quarantine" not in (table.table_uri if isinstance(table, DeltaTable) else table._root)

    steps: dict[str, Callable[[], None]] = {
        MID_EXTRACT: lambda: die_while_it_spools(CsvFiles),
        SOME_STAGED: lambda: die_in(LakeFiles, "upload", call=2, of=holds_rows),
        BEFORE_COMMIT: lambda: die_in(DeltaTable, "create_write_transaction", after=False, of=holds_rows),
        AFTER_COMMIT: lambda: die_in(DeltaTable, "create_write_transaction", of=holds_rows),
        MID_LOAD: lambda: die_in(BoundedWriter, "send", call=_WRITES_BEFORE_DEATH),
    }
    steps[stop]()


def main(asked: dict[str, Any]) -> None:
    from tests.running import run_task_in_process

    module, _, name = asked["operator"].rpartition(".")
    operator = getattr(import_module(module), name)(task_id="load", **asked["arguments"])
    arm(asked["stop"])
    run_task_in_process(operator, conf={"date": asked["date"]})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
