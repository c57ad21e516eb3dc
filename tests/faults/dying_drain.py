"""A drain in a process of its own that ends at a chosen step, as ``kill -9`` ends it.

Run as a program: ``dying_drain.py '{"folder": "...", "cassandra_port": 9042, "name": "...", "stop": "..."}'``.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from tallyclerk.sinks.cassandra_client import BoundedWriter
from tallyclerk.sinks.cassandra_drains import DrainsTable
from tallyclerk.sinks.cassandra_newest import CassandraNewest
from tallyclerk.sinks.quarantine import Quarantine
from tallyclerk.sources import kafka_batches
from tests.faults.dying_task import die_in
from tests.integration.cassandra.drain_case import DrainCase, connections

PIECE_MESSAGES = 1_000

STOPS: dict[str, Any] = {
    "after its generation is claimed": (DrainsTable, "claim", {}),
    "after its rejects are in quarantine": (Quarantine, "replace_range", {}),
    "before its first write": (BoundedWriter, "send", {"after": False}),
    "after some of its writes": (BoundedWriter, "send", {"call": 20}),
    "after all writes of a piece": (CassandraNewest, "write", {}),
    "right before the cursor moves": (DrainsTable, "advance", {"after": False}),
    "right after the cursor has moved": (DrainsTable, "advance", {}),
    "in its second piece": (CassandraNewest, "write", {"call": 2}),
}
MOVED = ("right after the cursor has moved", "in its second piece")
"""Where the cursor is behind the first piece."""


def main(asked: dict[str, Any]) -> None:
    from tests.running import run_task_in_process

    stop = asked.pop("stop")
    case = DrainCase(**asked)
    os.environ.update(connections(case.cassandra_port))
    kafka_batches.BATCH_MESSAGES = PIECE_MESSAGES
    owner, method, when = STOPS[stop]
    die_in(owner, method, **when)
    run_task_in_process(case.task(max_piece_messages=PIECE_MESSAGES))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
