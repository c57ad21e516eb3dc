"""`python -m stack <command>`: the stack by hand. The Makefile calls the same."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence

from stack import container, demo, doctor, testing
from stack.errors import StackError
from stack.service import Service, dependants, select
from stack.services import SERVICES, postgres
from stack.settings import Settings, load_settings
from stack.shell import shell_environment
from stack.supervisor import Supervisor


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 means that all is as it should be."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(load_settings(), options)
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `python -m stack status` says what runs", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    groups = ", ".join(dict.fromkeys(service.group for service in SERVICES))
    for name, run, text in (
        ("up", _up, "start what does not run, and what it depends on"),
        ("down", _down, "stop services and what depends on them"),
        ("status", _status, "state, pid, memory and ports; exit code 1 when something is not up"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "services", nargs="*", help=f"all that are not optional without a name; {groups}, or a single process"
        )
        command.set_defaults(run=run)
    commands.choices["up"].add_argument(
        "--without", action="append", default=[], metavar="NAME", help="leave this group out"
    )
    reset = commands.add_parser("reset", help="stop everything and delete its data and logs (jars and .env stay)")
    reset.add_argument("--yes", action="store_true", help="do not ask")
    reset.set_defaults(run=_reset)
    test = commands.add_parser("test", help="start what is missing, run all tests, stop what was started")
    test.add_argument("pytest_arguments", nargs="*", help="handed to pytest; options after --")
    test.set_defaults(run=_test)
    for name, run, text in (
        ("run", _run, "start everything, seed the shop, run retail_daily for yesterday, show the result"),
        ("doctor", _doctor, "what this machine lacks, and how to get it"),
        ("urls", _urls, "where the user interfaces are"),
        ("env", _env, "export lines for a shell that works with this stack"),
    ):
        commands.add_parser(name, help=text).set_defaults(run=run)
    container.add_commands(commands)
    return parser


def _up(settings: Settings, options: argparse.Namespace) -> int:
    left_out = {service.name for service in dependants(SERVICES, options.without)} if options.without else set()
    chosen = [service for service in select(SERVICES, options.services) if service.name not in left_out]
    started = Supervisor(settings).up(chosen)
    print(f"{len(started)} started, {len(chosen) - len(started)} were running or done")
    _print_urls(settings, chosen)
    return 0


def _down(settings: Settings, options: argparse.Namespace) -> int:
    Supervisor(settings).down(dependants(SERVICES, options.services))
    return 0


def _status(settings: Settings, options: argparse.Namespace) -> int:
    found = Supervisor(settings).status(_named_or_in_use(settings, options.services))
    print(f"{'service':<22} {'state':<10} {'pid':>8} {'MiB':>6}  ports")
    for status in found:
        ports = " ".join(str(settings.port(port)) for port in status.service.ports)
        memory = f"{status.memory_bytes / 2**20:.0f}" if status.pid else ""
        print(f"{status.service.name:<22} {status.state:<10} {status.pid or '':>8} {memory:>6}  {ports}")
    return 0 if all(status.state == "up" for status in found) else 1


def _reset(settings: Settings, options: argparse.Namespace) -> int:
    folders = [settings.home / name for name in ("data", "logs", "run", "conf", "secrets", "airflow", "shop")]
    folders.append(postgres.home(settings))
    if not options.yes:
        print("This stops the stack and deletes:", *folders, sep="\n  ")
        if not sys.stdin.isatty():
            raise StackError("nothing was deleted: say --yes (make reset YES=1)")
        if input("Type yes to go on: ").strip() != "yes":
            return 1
    Supervisor(settings).down(dependants(SERVICES, []))
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)
    return 0


def _run(settings: Settings, options: argparse.Namespace) -> int:
    Supervisor(settings).up(select(SERVICES, []))
    code = demo.run_demo(settings)
    print("\nEverything is still running; `make down` stops it.")
    _print_urls(settings, _named_or_in_use(settings, ()))
    return code


def _test(settings: Settings, options: argparse.Namespace) -> int:
    return testing.run_tests(settings, options.pytest_arguments)


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    return doctor.report(settings)


def _urls(settings: Settings, options: argparse.Namespace) -> int:
    _print_urls(settings, _named_or_in_use(settings, ()))
    return 0


def _env(settings: Settings, options: argparse.Namespace) -> int:
    for name, value in shell_environment(settings).items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _named_or_in_use(settings: Settings, names: Sequence[str]) -> list[Service]:
    """The named services; without names all, of the optional ones those that run."""
    chosen = select(SERVICES, names)
    running = Supervisor(settings).identity
    return chosen if names else chosen + [each for each in SERVICES if each.optional and running(each)]


def _print_urls(settings: Settings, services: Sequence[Service]) -> None:
    for service in services:
        if service.url:
            print(f"  {service.name:<20} {service.url(settings)}")
