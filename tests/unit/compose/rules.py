"""What must hold for the compose files. Each rule takes a merged project and returns what is wrong, a line for each finding."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stack.settings import ROOT
from tests.unit.compose.variants import services

Project = dict[str, Any]
_TAG = re.compile(r".+:[\w.-]*\d[\w.-]*")
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rest>[^}]*)\}")
_SECRET_KEY = re.compile(r"PASSWORD|SECRET_KEY|JWT|FERNET|API_KEY|TOKEN", re.IGNORECASE)


def _default(text: str) -> str:
    """`text` as it is when no variable is set; a required one leaves its name."""
    return _VARIABLE.sub(lambda found: found["rest"][2:] if found["rest"].startswith(":-") else found["name"], text)


def _is_step(service: dict[str, Any]) -> bool:
    return service["restart"] == "on-failure:3"


def _host_port(port: str) -> tuple[str, str]:
    address, host, _ = _default(port).rsplit(":", 2)
    return address, host


def host_ports(project: Project) -> Iterator[str]:
    """No two services on one host port; all of them on loopback, unless the address is the user's own choice."""
    owners: dict[str, str] = {}
    for name, service in services(project):
        for port in service.get("ports", []):
            address, number = _host_port(port)
            if number in owners:
                yield f"{name} and {owners[number]} are both on host port {number}"
            owners[number] = name
            if address not in ("127.0.0.1", "TALLYCLERK_BIND_ADDRESS"):
                yield f"{name}: host port {number} is open on {address}"


def health(project: Project) -> Iterator[str]:
    for name, service in services(project):
        check = service.get("healthcheck", {}).get("test")
        if not _is_step(service) and (not check or check[0] not in ("CMD", "CMD-SHELL")):
            yield f"{name} has no health check"


def limits(project: Project) -> Iterator[str]:
    for name, service in services(project):
        found = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if not {"cpus", "memory"} <= set(found):
            yield f"{name} has no limit of CPU and memory"


def restart(project: Project) -> Iterator[str]:
    for name, service in services(project):
        if service.get("restart") not in ("unless-stopped", "on-failure:3", "no"):
            yield f"{name} has no restart policy"


def pins(project: Project) -> Iterator[str]:
    for name, service in services(project):
        image = _default(service.get("image", ""))
        if not _TAG.fullmatch(image) or image.endswith("latest"):
            yield f"{name}: {image or 'its image'} has no tag with a version"


def order(project: Project) -> Iterator[str]:
    """Who depends on a service waits until it is healthy, on a one-shot one until it is done; the graph has no circle."""
    running = dict(services(project))
    for name, service in running.items():
        for other, wait in service.get("depends_on", {}).items():
            if other not in running:
                yield f"{name} depends on {other}, which is not started"
                continue
            wanted = "service_completed_successfully" if _is_step(running[other]) else "service_healthy"
            if wait.get("condition") != wanted:
                yield f"{name} depends on {other}, and does not wait for {wanted}"


def mounts(project: Project) -> Iterator[str]:
    """What is mounted is a named volume that is declared, or a file of the checkout; a volume is written by whoever may."""
    for name, service in services(project):
        for mount in service.get("volumes", []):
            source = re.split(r":(?=/)", _default(mount))[0]
            if source.startswith("./"):
                if not (ROOT / source).exists():
                    yield f"{name} mounts {source}, which is not there"
            elif source not in project["volumes"] and not source.isupper():
                yield f"{name} mounts {source}, which is no declared volume"


def secrets(project: Project) -> Iterator[str]:
    """No value of a secret in an environment or a command: containers are given files."""
    for name, service in services(project):
        for key, value in service.get("environment", {}).items():
            if _SECRET_KEY.search(key) and not str(value).startswith("/run/secrets/"):
                yield f"{name}: {key} stands in the environment"
        for each in service.get("secrets", []):
            secret = each if isinstance(each, str) else each["source"]
            if secret not in project["secrets"]:
                yield f"{name}: the secret {secret} is not declared"
    for name, secret in project["secrets"].items():
        if set(secret) not in ({"environment"}, {"file"}) or secret.get("environment", name) != name:
            yield f"the secret {name} is neither a variable of its name nor a file"


RULES: Mapping[str, Callable[[Project], Iterator[str]]] = {
    rule.__name__: rule for rule in (host_ports, health, limits, restart, pins, order, mounts, secrets)
}


def production(project: Project) -> Iterator[str]:
    """Further, of production: secrets from files, one open port, and TLS for every container of ours."""
    yield from (
        f"the secret {name} is not a file" for name, secret in project["secrets"].items() if "file" not in secret
    )
    for name, service in services(project):
        if service.get("ports") and name != "airflow-api-server":
            yield f"{name} has a port that is open"
        environment = service.get("environment", {})
        if "TALLYCLERK_LISTEN" in environment and environment.get("TALLYCLERK_TLS") != "/certificates":
            yield f"{name} knows nothing of the certificates"
