"""The commands, given as a person gives them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from airflow.cli.cli_parser import get_parser

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def airflow(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command by Airflow's own parser; exit code, output, complaints."""

    def call(*arguments: str) -> tuple[int, str, str]:
        args = get_parser().parse_args(arguments)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            args.func(args)
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


@pytest.fixture
def run(airflow: Run) -> Run:
    """One of this provider's commands."""
    return partial(airflow, "tallyclerk")
