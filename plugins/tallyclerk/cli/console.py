"""How this provider's commands speak: results on stdout, complaints on stderr, no stack trace for a user's mistake."""

from __future__ import annotations

import functools
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from tallyclerk.exceptions import SpecError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2  # nothing was started or written; argparse uses the same code
EXIT_INTERRUPTED = 130


def command(function: Callable[[Namespace], int]) -> Callable[[Namespace], None]:
    """Make an ``airflow`` command of a function that returns its exit code.

    The call is recorded in Airflow's audit log as every command is. A ``SpecError`` is printed and ends with
    ``EXIT_REFUSED``; any other error keeps its stack trace.
    """
    from airflow.utils.cli import action_cli
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    @functools.wraps(function)
    def run(args: Namespace) -> None:
        try:
            code = function(args)
        except SpecError as refusal:
            complain(str(refusal))
            code = EXIT_REFUSED
        except KeyboardInterrupt:
            complain("interrupted")
            code = EXIT_INTERRUPTED
        raise SystemExit(code)

    logged: Callable[[Namespace], None] = action_cli(providers_configuration_loaded(run))
    return logged


def complain(text: str) -> None:
    """Print to stderr, after what stdout still holds, so that a log with both reads in order."""
    sys.stdout.flush()
    print(text, file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lay rows out in columns, without borders, so that a line can be cut with ``awk``."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
