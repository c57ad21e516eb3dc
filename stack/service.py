"""What a service is, and in which order services start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from stack.errors import StackError
from stack.settings import Settings


def _nothing(settings: Settings) -> None:
    """No step is needed."""


def _no_variables(settings: Settings) -> dict[str, str]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One process of the stack, or (without a command) one step that must be done before others.

    :param group: the name under which users know it with its siblings, e.g. `hdfs`.
    :param healthy: answers whether it can be used now; `since` is the process' start (seconds since the epoch), so that a
        sign of life which an earlier process left behind does not count. It must not raise when the service is away.
    :param command: its argument vector; the process must stay in the foreground. None for a step.
    :param ports: names as in `Settings.port`.
    :param configure: writes its configuration files under `Settings.rendered_conf`, and nothing else; run before `prepare`.
    :param prepare: run before the process starts (folders, formats); idempotent. For a step, the step itself.
    :param complete: run once the service is healthy (databases, folders); idempotent.
    :param maven: the folders of `stack/maven` whose jars it needs.
    :param optional: it is started only when it is named.
    :param memory_mb: resident memory to expect, in MiB.
    """

    name: str
    group: str
    healthy: Callable[[Settings, float], bool]
    command: Callable[[Settings], list[str]] | None = None
    environment: Callable[[Settings], Mapping[str, str]] = _no_variables
    depends_on: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    configure: Callable[[Settings], None] = _nothing
    prepare: Callable[[Settings], None] = _nothing
    complete: Callable[[Settings], None] = _nothing
    maven: tuple[str, ...] = ()
    optional: bool = False
    memory_mb: int = 0
    stop_signal: int = 15
    stop_grace_seconds: float = 60
    start_limit_seconds: float = 600
    url: Callable[[Settings], str] | None = None


def select(services: Iterable[Service], names: Iterable[str]) -> list[Service]:
    """The services called `names` (a service's or a group's name) and all they depend on, in start order.

    Without names: all but the optional ones.

    :raises StackError: a name is unknown, or the services depend on each other in a circle.
    """
    by_name = {service.name: service for service in services}
    wanted: set[str] = set()
    names = list(names) or [service.name for service in by_name.values() if not service.optional]
    pending = list(_expand(by_name, names))
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending.extend(by_name[name].depends_on)
    return [by_name[name] for name in _order(by_name) if name in wanted]


def dependants(services: Iterable[Service], names: Iterable[str]) -> list[Service]:
    """The services called `names` and all that depend on them, in stop order. Without names: all of them."""
    by_name = {service.name: service for service in services}
    wanted = set(_expand(by_name, names))
    order = _order(by_name)
    for name in order:
        if wanted.intersection(by_name[name].depends_on):
            wanted.add(name)
    return [by_name[name] for name in reversed(order) if name in wanted]


def _expand(by_name: Mapping[str, Service], names: Iterable[str]) -> set[str]:
    names = list(names)
    if not names:
        return set(by_name)
    found: set[str] = set()
    for name in names:
        members = {service.name for service in by_name.values() if name in (service.name, service.group)}
        if not members:
            groups = ", ".join(sorted({service.group for service in by_name.values()}))
            raise StackError(f"no service is called {name!r}; there are: {groups}")
        found |= members
    return found


def _order(by_name: Mapping[str, Service]) -> list[str]:
    try:
        return list(TopologicalSorter({name: service.depends_on for name, service in by_name.items()}).static_order())
    except CycleError as error:
        raise StackError(f"services depend on each other in a circle: {' → '.join(error.args[1])}") from error
