"""A Flink job's change in a process of its own that ends at a chosen step, as ``kill -9`` ends it.

Run as a program: ``dying_flink_change.py '{"name": "...", "folder": "...", "stop": "..."}'``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from stack.settings import load_settings
from tallyclerk.hooks.flink import FlinkHook
from tallyclerk.sinks.cassandra_flink_jobs import FlinkJobsTable
from tests.faults.dying_task import die_in
from tests.integration.flink.flink_job_case import FILTERED, FlinkJobCase, run_to_end

STOPS: dict[str, Any] = {
    "after its claim": (FlinkJobsTable, "claim", {}),
    "after the stop was asked for": (FlinkHook, "stop", {}),
    "before the new one is asked for": (FlinkHook, "run", {"after": False}),
    "after the new one is taken": (FlinkHook, "run", {}),
}


def main(asked: dict[str, str]) -> None:
    owner, method, when = STOPS[asked["stop"]]
    die_in(owner, method, **when)
    case = FlinkJobCase(load_settings(), Path(asked["folder"]), name=asked["name"])
    run_to_end(case.operator(FILTERED))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
