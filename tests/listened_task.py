"""Tasks in a process of their own, to which OpenLineage's provider listens as it does in a worker's.

Run as a program: ``listened_task.py '[{"operator": "module.Class", "arguments": {...}, "date": "2026-03-01"}, ...]'``. A task that
fails is the last one's affair, not the next one's. The provider makes a fork for each event, which no test's own process may bear.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from importlib import import_module

from tallyclerk.exceptions import TallyclerkError
from tests.running import run_task_in_process


def main(tasks: str) -> None:
    for number, task in enumerate(json.loads(tasks)):
        module, _, name = task["operator"].rpartition(".")
        operator = getattr(import_module(module), name)(task_id=f"task_{number}", **task["arguments"])
        with suppress(TallyclerkError):
            run_task_in_process(operator, conf={"date": task["date"]})


if __name__ == "__main__":
    main(sys.argv[1])
