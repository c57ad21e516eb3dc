"""Add a command to one of Airflow's own command groups.

Airflow lets a provider add a new group, not a command in a group that exists. But while it asks the providers, the
list it will build its parser from is already there (``airflow.cli.cli_parser.airflow_commands``), so the group in
that list is replaced by a copy with one command more. No file and no class of Airflow is changed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.cli.cli_config import ActionCommand


def graft(group_name: str, command: ActionCommand) -> str | None:
    """Add ``command`` to Airflow's group ``group_name``; a second call changes nothing.

    :return: None when the command is there (or no parser is being built), otherwise why it could not be added.
    """
    parser_module = sys.modules.get("airflow.cli.cli_parser")
    if parser_module is None:  # asked by something else than the command line, for example a list of providers
        return None
    commands: Any = getattr(parser_module, "airflow_commands", None)
    if not isinstance(commands, list):
        return "this Airflow keeps its commands elsewhere"
    for index, group in enumerate(commands):
        if getattr(group, "name", None) != group_name:
            continue
        subcommands, replace = getattr(group, "subcommands", None), getattr(group, "_replace", None)
        if not isinstance(subcommands, (list, tuple)) or replace is None:
            return f"this Airflow builds the group {group_name!r} differently"
        if all(getattr(known, "name", None) != command.name for known in subcommands):
            commands[index] = replace(subcommands=(*subcommands, command))
        return None
    return f"this Airflow has no group {group_name!r}"
