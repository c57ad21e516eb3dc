"""The compose files as the tests read them: merged by the rules that these files need, as `docker compose config` would.

Mappings are merged, `ports`, `secrets` and `volumes` appended (a later mount of the same place wins), everything else is replaced; `!reset` takes
a key away, `!override` puts another in its place. Variables stay as they are written. `scripts/compose-config.sh` runs the real loader.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from stack.settings import ROOT

VARIANTS = {
    "base": ("docker-compose.yaml",),
    "dev": ("docker-compose.yaml", "docker-compose.dev.yaml"),
    "test": ("docker-compose.yaml", "docker-compose.test.yaml"),
    "prod": ("docker-compose.yaml", "docker-compose.prod.yaml"),
}
_APPENDED = ("ports", "secrets", "volumes")


class Reset:
    """What stands for `!reset`."""


class Override:
    """What stands for `!override`: the value as it is."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Loader(yaml.SafeLoader):
    pass


def _tagged(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_constructor("!reset", lambda loader, node: Reset())
_Loader.add_constructor("!override", lambda loader, node: Override(_tagged(loader, node)))


def read(name: str) -> dict[str, Any]:
    """One file, its tags as `Reset` and `Override`."""
    return copy.deepcopy(_parsed(name))


@cache
def _parsed(name: str) -> dict[str, Any]:
    return yaml.load((ROOT / name).read_text(), _Loader)


def plain(value: Any) -> Any:
    """The same without tags, for the schema."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if not isinstance(each, Reset)}
    return plain(value.value) if isinstance(value, Override) else value


def merged(*names: str) -> dict[str, Any]:
    """What the files come to together."""
    project: dict[str, Any] = {}
    for name in names:
        project = _merge(project, read(name))
    for service in project["services"].values():
        if extended := service.pop("extends", None):
            base = {
                key: value for key, value in project["services"][extended["service"]].items() if key != "depends_on"
            }
            service.update(_merge(base, dict(service)))
    return project


def with_profile(project: dict[str, Any], profile: str) -> dict[str, Any]:
    """The project as `--profile` starts it."""
    chosen = {
        name: {key: value for key, value in service.items() if key != "profiles" or profile not in value}
        for name, service in project["services"].items()
    }
    return {**project, "services": chosen}


def services(project: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Those that start without a profile."""
    return ((name, service) for name, service in project["services"].items() if "profiles" not in service)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        if isinstance(value, Reset):
            result.pop(key, None)
        elif isinstance(value, Override):
            result[key] = value.value
        elif isinstance(value, dict) and isinstance(before, dict):
            result[key] = _merge(before, value)
        elif isinstance(value, dict):
            result[key] = _merge({}, value)
        elif key in _APPENDED and isinstance(value, list) and isinstance(before, list):
            places = {each.split(":")[1] for each in value} if key == "volumes" else set()
            result[key] = [each for each in before if key != "volumes" or each.split(":")[1] not in places] + value
        else:
            result[key] = value
    return result
