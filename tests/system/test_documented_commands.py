"""Every command of README and tutorial is given as it is written, in order, and answers as the page shows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from deltalake.exceptions import TableNotFoundError

from include.shop.trading_days import TradingDays
from stack import processes
from stack.settings import LOOPBACK, ROOT, Settings, load_settings
from stack.shell import shell_environment
from tallyclerk.sinks.lake_table import receipts_of
from tests.system.documents import PAGES, Command, commands
from tests.system.reading_api import ReadingApi

BY_CI = {"make test", "make doctor"}
"""Commands that .github/workflows/ci.yml runs; they cannot run within themselves."""
_MINUTES = ("make run", "./airflow dags trigger", "./airflow dags backfill")
"""Commands that work on whole days: the long test gives them."""
_NO_KPIS = "Neither layer has KPIs for this."
_LIMIT_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    output: str


Give = Callable[[Command], Answer]


@pytest.fixture(scope="module")
def has_yesterday(api: ReadingApi, calendar: TradingDays, settings: Settings) -> bool:
    """Whether the shop's yesterday was run here, as the documents take it; its files and the DAG are there in any case."""
    kpis = f"hdfs://{LOOPBACK}:{settings.port('HDFS')}/data/enriched/customer_kpis"
    try:
        return any(receipt.window == calendar.yesterday.isoformat() for receipt in receipts_of(kpis))
    except TableNotFoundError:
        return False


@pytest.fixture(scope="module")
def give() -> Iterator[Give]:
    """Gives a command as a shell in the checkout would; the airflow command's start is paid once, but for ``validate``."""
    variables = {**processes.base_environment(), **shell_environment(load_settings())}
    with subprocess.Popen(
        [ROOT / ".venv/bin/python", ROOT / "tests/system/warm_airflow.py"],
        cwd=ROOT, env=variables, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as warm:  # fmt: skip
        assert warm.stdin is not None
        assert warm.stdout is not None

        def given(command: Command) -> Answer:
            if command.text.startswith("./airflow ") and "validate" not in command.text:
                # the shell expands the line; what it would start is the fork
                words = _shell(f"printf '%s\\0' {command.text}", variables).output.split("\0")[:-1]
                warm.stdin.write(json.dumps(words[1:]) + "\n")
                warm.stdin.flush()
                return Answer(**json.loads(warm.stdout.readline()))
            return _shell(command.text, variables)

        yield given
        warm.stdin.close()


def _shell(text: str, variables: dict[str, str]) -> Answer:
    done = subprocess.run(
        ["bash", "-c", text], cwd=ROOT, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, timeout=_LIMIT_SECONDS, check=False,
    )  # fmt: skip
    return Answer(done.returncode, done.stdout)


def _bare(command: Command) -> str:
    return command.text.split("  #")[0].strip()


def _takes_minutes(command: Command) -> bool:
    return command.page == "repair.md" or (_bare(command).startswith(_MINUTES) and "--dry-run" not in command.text)


ALL = [command for page in PAGES for command in commands(page)]


def test_the_documents_have_commands_and_ci_gives_those_that_are_left_to_it() -> None:
    assert {command.page for command in ALL} == {page.name for page in PAGES}
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    left = {_bare(command) for command in ALL} & BY_CI
    assert {text for text in left if f"run: {text}\n" not in workflow} == set()


@pytest.mark.integration
def test_each_quick_command_answers_as_shown_when_it_is_given(give: Give, has_yesterday: bool) -> None:
    # on a stack that has run nothing yet each command answers too, but has nothing to show; the long test runs the day first
    given = [command for command in ALL if not _takes_minutes(command) and _bare(command) not in BY_CI]
    assert len(given) > 10
    for command in given:
        _judge(command if has_yesterday else replace(command, shown=()), give(command))


@pytest.mark.long
@pytest.mark.system
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_answers_as_shown_when_a_whole_page_is_given_in_order(page: Path, give: Give) -> None:
    for command in commands(page):
        if _bare(command) not in BY_CI:
            _judge(command, give(command))


def _judge(command: Command, answer: Answer) -> None:
    if "tallyclerk kpis" in command.text and not command.shown and _NO_KPIS in answer.output:
        assert answer.code == 1  # a day that nobody has run, or one that has just begun: the page shows no rows of it
        return
    assert answer.code == 0, f"{command.page}: {command.text}\n{answer.output}"
    assert command.absent(answer.output) == [], f"{command.page}: {command.text}\n{answer.output}"
