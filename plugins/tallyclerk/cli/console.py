"""How this provider's commands speak: results on stdout, complaints on stderr, no stack trace for a user's mistake."""

from __future__ import annotations

import functools
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from tallyclerk.exceptions import SpecError, TallyclerkError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_REFUSED = 2  # nothing was started or written; argparse uses the same code
EXIT_INTERRUPTED = 130


def command(function: Callable[[Namespace], int]) -> Callable[[Namespace], None]:
    """Make an ``airflow`` command of a function that returns its exit code.

    The call is recorded in Airflow's audit log as every command is. An error of ours is printed: a ``SpecError`` ends with
    ``EXIT_REFUSED``, another one with ``EXIT_FAILED``. Any other error keeps its stack trace. Log lines of the libraries
    appear with ``--verbose`` only.
    """
    from airflow.utils.cli import action_cli, suppress_logs_and_warning
    from airflow.utils.providers_configuration_loader import providers_configuration_loaded

    @functools.wraps(function)
    def run(args: Namespace) -> None:
        try:
            code = function(args)
        except TallyclerkError as error:
            complain(str(error))
            code = EXIT_REFUSED if isinstance(error, SpecError) else EXIT_FAILED
        except KeyboardInterrupt:
            complain("interrupted")
            code = EXIT_INTERRUPTED
        raise SystemExit(code)

    logged: Callable[[Namespace], None] = action_cli(providers_configuration_loaded(suppress_logs_and_warning(run)))
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
