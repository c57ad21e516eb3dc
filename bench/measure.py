"""Runs one function in a process of its own and says what it cost: CPU and wall seconds, peak resident memory.

``measure("bench.something:function", rows=10)`` calls ``function(rows=10)`` in a fresh interpreter. The clock runs around
the call, imports inside the function included, the interpreter's start not. CPU counts child processes too. Arguments go
through standard input, so that no password stands on a command line.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_MARK = "MEASURED "


@dataclass(frozen=True, slots=True)
class Measurement:
    """:param peak_rss_mib: of the process itself, or its largest child. :param result: what the function returned (JSON)."""

    cpu_seconds: float
    wall_seconds: float
    peak_rss_mib: float
    result: Any = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(target: str, *, python: str | Path = sys.executable, **arguments: Any) -> Measurement:
    """Call ``module:function`` with JSON arguments in a fresh process.

    :param python: another environment's interpreter, for peers that are not among our dependencies.
    :raises RuntimeError: the function failed; the message is the end of its error output.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])}
    done = subprocess.run(
        [str(python), "-m", "bench.measure", target],
        input=json.dumps(arguments),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not answers:
        raise RuntimeError(f"{target} failed ({done.returncode}): {done.stderr[-2000:]}")
    return Measurement(**json.loads(answers[-1][len(_MARK) :]))


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_rss_mib() -> float:
    # not ru_maxrss of ourselves: across fork and exec that keeps the parent's peak
    lines = Path("/proc/self/status").read_text().splitlines()
    own = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def _main(target: str) -> None:
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    arguments = json.load(sys.stdin)
    cpu, wall = _cpu_seconds(), time.perf_counter()
    result = function(**arguments)
    wall, cpu = time.perf_counter() - wall, _cpu_seconds() - cpu
    measured = Measurement(round(cpu, 3), round(wall, 3), round(_peak_rss_mib(), 1), result)
    print(_MARK + json.dumps(measured.as_dict()), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
