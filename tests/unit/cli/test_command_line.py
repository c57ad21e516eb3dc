"""The commands as Airflow's own parser sees them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from types import ModuleType

import pytest
from airflow.cli.cli_config import ActionCommand, GroupCommand

from tallyclerk.cli.definition import BACKFILL, get_cli_commands
from tallyclerk.cli.grafting import graft


@pytest.fixture(scope="module")
def parser() -> ArgumentParser:
    """Airflow's parser, built by Airflow with the installed provider."""
    from airflow.cli.cli_parser import get_parser

    return get_parser()


def parse_backfill(parser: ArgumentParser, *arguments: str) -> Namespace:
    return parser.parse_args(["dags", "backfill", *arguments])


def test_backfill_reads_the_short_options_of_airflow_2(parser: ArgumentParser) -> None:
    args = parse_backfill(
        parser, "retail_daily", "-s", "2026-01-02", "-e", "2026-01-05", "-c", '{"a": 1}', "-n", "-B", "-y"
    )
    assert args.dag_id == "retail_daily"
    assert args.start_date == datetime(2026, 1, 2, tzinfo=UTC)
    assert args.end_date == datetime(2026, 1, 5, tzinfo=UTC)
    assert args.conf == '{"a": 1}'
    assert args.dry_run
    assert args.run_backwards
    assert args.yes


def test_backfill_reads_the_long_options(parser: ArgumentParser) -> None:
    args = parse_backfill(
        parser, "d", "--start-date", "2026-01-02T03:00+02:00", "--reset-dagruns", "--rerun-failed-tasks",
        "--max-active-runs", "3", "--no-wait",
    )  # fmt: skip
    assert args.start_date == datetime(2026, 1, 2, 1, tzinfo=UTC)
    assert args.reset_dagruns
    assert args.rerun_failed_tasks
    assert args.no_wait
    assert args.max_active_runs == 3


@pytest.mark.parametrize("date", ["yesterday", "10:00", "P1D", "2026-02-30", "2026"])
def test_backfill_refuses_a_date_that_is_none(
    parser: ArgumentParser, date: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        parse_backfill(parser, "d", "-s", date)
    assert exit_info.value.code == 2
    assert "-s/--start-date" in capsys.readouterr().err


def test_dags_help_lists_backfill_beside_airflows_own_commands(
    parser: ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["dags", "--help"])
    shown = capsys.readouterr().out
    for name in ("backfill", "trigger", "unpause", "list-runs"):
        assert f"\n    {name} " in shown


def test_load_settings_takes_the_file_of_the_project_when_none_is_named(parser: ArgumentParser) -> None:
    assert parser.parse_args(["tallyclerk", "load-settings"]).file == "airflow_settings.yaml"
    assert parser.parse_args(["tallyclerk", "load-settings", "x.yaml"]).file == "x.yaml"


def nothing(_: Namespace) -> None:
    """A command that does nothing."""


OTHER = ActionCommand("trigger", "…", nothing, ())


def stand_in(monkeypatch: pytest.MonkeyPatch, **attributes: object) -> ModuleType:
    module = ModuleType("airflow.cli.cli_parser")
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, "airflow.cli.cli_parser", module)
    return module


def test_graft_adds_the_command_once_and_leaves_airflows_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    group = GroupCommand("dags", "…", (OTHER,))
    commands = [group]
    stand_in(monkeypatch, airflow_commands=commands)
    assert graft("dags", BACKFILL) is None
    assert graft("dags", BACKFILL) is None
    assert [command.name for command in commands[0].subcommands] == ["trigger", "backfill"]
    assert group.subcommands == (OTHER,)


def test_graft_gives_way_when_airflow_has_the_command_again(monkeypatch: pytest.MonkeyPatch) -> None:
    own = OTHER._replace(name="backfill")
    commands = [GroupCommand("dags", "…", (own,))]
    stand_in(monkeypatch, airflow_commands=commands)
    assert graft("dags", BACKFILL) is None
    assert tuple(commands[0].subcommands) == (own,)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"airflow_commands": {"dags": None}},
        {"airflow_commands": []},
        {"airflow_commands": [GroupCommand("dags", "…", iter(()))]},
        {"airflow_commands": [OTHER._replace(name="dags")]},
    ],
    ids=["no list", "a dict", "no group", "an iterator", "a command"],
)
def test_a_parser_built_differently_costs_only_the_graft_when_it_changes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, attributes: dict[str, object]
) -> None:
    stand_in(monkeypatch, **attributes)
    assert [command.name for command in get_cli_commands()] == ["tallyclerk"]
    assert "airflow backfill create" in caplog.text
