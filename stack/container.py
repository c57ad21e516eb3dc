"""The commands of a container: one service in the foreground instead of a supervisor over all.

They are the same services with the same configuration: only the addresses differ, and those are variables (`Settings.host`).
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

from stack.certificates import make_certificates
from stack.errors import StackError
from stack.first_structures import STEPS
from stack.processes import base_environment
from stack.service import Service
from stack.services import SERVICES
from stack.settings import MARK, Settings

_CONFIGURED = "TALLYCLERK_CONFIGURED"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds them to the parser of `python -m stack`."""
    commands.add_parser("render", help="write every service's configuration files").set_defaults(run=_render)
    for name, run, text in (
        ("exec", _exec, "become a service: prepare it, then run it in the foreground"),
        ("healthy", _healthy, "exit code 0 when a service can be used"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("service", choices=[service.name for service in SERVICES if service.command])
        command.set_defaults(run=run)
    init = commands.add_parser("init", help="make what must be there before the first load; can be repeated")
    init.add_argument("steps", nargs="+", choices=STEPS, metavar="step", help=", ".join(STEPS))
    init.set_defaults(run=_init)
    certificates = commands.add_parser("certificates", help="an authority and certificates, for a trial of TLS")
    certificates.add_argument("folder", type=Path)
    certificates.set_defaults(run=_certificates)


def render_all(settings: Settings) -> None:
    """Writes all configuration files under `Settings.rendered_conf`: the templates filled in, the others as they are."""
    for service in SERVICES:
        service.configure(settings)
    for source in settings.conf.rglob("*"):
        target = settings.rendered_conf / source.relative_to(settings.conf)
        if source.is_file() and source.suffix != ".in" and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def _render(settings: Settings, options: argparse.Namespace) -> int:
    render_all(settings)
    return 0


def _exec(settings: Settings, options: argparse.Namespace) -> int:
    service = _service(options.service)
    assert service.command is not None
    for folder in (settings.logs, settings.run, settings.data):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.environ.get(_CONFIGURED):  # else another container has written them
        service.configure(settings)
    service.prepare(settings)
    command = service.command(settings)
    os.chdir(settings.home)
    environment = {**base_environment(), **service.environment(settings), MARK: f"{settings.home}:{service.name}"}
    os.execvpe(command[0], command, environment)  # noqa: S606


def _healthy(settings: Settings, options: argparse.Namespace) -> int:
    return 0 if _service(options.service).healthy(settings, 0) else 1


def _init(settings: Settings, options: argparse.Namespace) -> int:
    settings.logs.mkdir(parents=True, exist_ok=True)
    for step in options.steps:
        STEPS[step](settings)
        print(f"{step}: done", flush=True)
    return 0


def _certificates(settings: Settings, options: argparse.Namespace) -> int:
    make_certificates(settings, options.folder)
    print(f"{options.folder}: certificates for a trial, valid for a year; set TALLYCLERK_TLS to that folder")
    return 0


def _service(name: str) -> Service:
    for service in SERVICES:
        if service.name == name:
            return service
    raise StackError(f"no service is called {name!r}")
