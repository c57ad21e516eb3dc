"""The airflow command without its start: Airflow is imported once, and each command is a fork of that process.

Run as a program: a JSON list of arguments a line on standard input, ``{"code": ..., "output": ...}`` a line on standard output.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback

import airflow.__main__ as command_line
from airflow.cli import cli_parser


def main() -> None:
    cli_parser.get_parser()
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output:
            if (child := os.fork()) == 0:
                _become(["airflow", *json.loads(line)], output.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            output.seek(0)
            print(json.dumps({"code": code, "output": output.read().decode()}), flush=True)


def _become(arguments: list[str], output: int) -> None:
    """Run one command in a fork, and end with its exit code."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = arguments
    code = 1
    try:
        command_line.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    finally:
        # nothing may go on from here: this is still the loop's process, doubled
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
