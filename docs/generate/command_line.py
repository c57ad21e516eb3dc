"""The tree of ``airflow tallyclerk`` and the grafted ``airflow dags backfill``, from what Airflow is given."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator

from airflow.cli.cli_config import ActionCommand, Arg, CLICommand

from docs.generate.tables import table
from tallyclerk.cli.definition import BACKFILL, SUBCOMMANDS


def markdown() -> str:
    """A section for each command: what it does, and its arguments."""
    tree = [*_commands("airflow tallyclerk", SUBCOMMANDS), *_commands("airflow dags", [BACKFILL])]
    return "\n\n".join(_section(name, command) for name, command in tree)


def _commands(prefix: str, commands: Iterable[CLICommand]) -> Iterator[tuple[str, ActionCommand]]:
    for command in commands:
        name = f"{prefix} {command.name}"
        if isinstance(command, ActionCommand):
            yield name, command
        else:
            yield from _commands(name, command.subcommands)


def _section(name: str, command: ActionCommand) -> str:
    parts = [f"### `{name}`", command.description or f"{command.help}."]
    if command.epilog:
        parts.append(command.epilog)
    return "\n\n".join([*parts, table(("argument", "is"), (_argument(arg) for arg in command.args))])


def _argument(arg: Arg) -> tuple[str, str]:
    facts = arg.kwargs
    metavar = facts.get("metavar") or "|".join(map(str, facts.get("choices") or ()))
    positional = not arg.flags[0].startswith("-")
    name = f"`{metavar or arg.flags[0]}`" if positional else ", ".join(f"`{flag}`" for flag in arg.flags)
    if metavar and not positional:
        name += f" `{metavar}`"
    text = str(facts.get("help") or "")
    if facts.get("default") is not argparse.SUPPRESS:
        text = text.replace("%(default)s", f"`{facts.get('default')}`")
    return name, f"{text} (needed)" if facts.get("required") or (positional and "nargs" not in facts) else text
