"""Kafka Connect's REST interface: one method per request, and its refusals as errors of ours."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from airflow.sdk import BaseHook

from tallyclerk.exceptions import ConnectorRefusedError, ServiceUnavailableError, SpecError
from tallyclerk.hooks.connections import http_address, tls_context

if TYPE_CHECKING:
    import httpx

RUNNING, PAUSED, STOPPED, FAILED = "RUNNING", "PAUSED", "STOPPED", "FAILED"
_EXTRA_KEYS = ("secrets_folder", "ca_file")
_CONFLICT, _SERVER_ERROR = 409, 500
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Part:
    """The connector itself (``task`` is None) or one task. ``trace`` is the Java stack trace of a failed one."""

    task: int | None
    state: str
    trace: str = ""

    def __str__(self) -> str:
        name = "connector" if self.task is None else f"task {self.task}"
        return f"{name} {self.state}" + (f": {cause(self.trace)}" if self.trace else "")


@dataclass(frozen=True, slots=True)
class ConnectorStatus:
    """What Connect says of a connector; ``tasks`` is empty while none are made, and when it is stopped."""

    connector: Part
    tasks: tuple[Part, ...]

    @property
    def failures(self) -> tuple[Part, ...]:
        return tuple(part for part in (self.connector, *self.tasks) if part.state == FAILED)

    def is_wholly(self, state: str) -> bool:
        """The connector and each of its tasks are in ``state``; one that is stopped has no tasks, all others have."""
        if self.connector.state != state:
            return False
        return not self.tasks if state == STOPPED else bool(self.tasks) and {t.state for t in self.tasks} == {state}

    def __str__(self) -> str:
        return ", ".join(map(str, (self.connector, *self.tasks)))


@dataclass(frozen=True, slots=True)
class Validation:
    """What the connector's plugin says of a configuration.

    :param findings: ``setting: what is wrong with it``, empty when it is valid.
    :param passwords: the settings that the plugin declares as passwords.
    """

    findings: tuple[str, ...]
    passwords: frozenset[str]


class KafkaConnectHook(BaseHook):
    """A Connect cluster (4.x) by its REST interface.

    Read from the connection: ``host``, ``port``, ``schema`` (``http`` unless said otherwise), ``login`` and ``password``;
    of the extra ``secrets_folder``, which connector configurations may name, and ``ca_file``.

    While the cluster rebalances it answers 409 to changes; these are repeated for ``rebalance_limit_seconds``.

    :param patience_seconds: how long an answer, or the next piece of it, is waited for. A worker answers some requests
        only when the group's leader has.

    :raises ServiceUnavailableError: (every method) no answer, an error of the server, or a rebalance that does not end.
    :raises SpecError: (every method) the login is refused.
    """

    conn_name_attr = "connect_conn_id"
    default_conn_name = "connect_default"
    conn_type = "http"
    hook_name = "HTTP"

    def __init__(
        self, connect_conn_id: str = default_conn_name, *, rebalance_limit_seconds: float = 120, patience_seconds: float = 100,
    ) -> None:  # fmt: skip
        super().__init__()
        self.connect_conn_id = connect_conn_id
        self.patience_seconds = patience_seconds
        self.rebalance_limit_seconds = rebalance_limit_seconds

    @cached_property
    def url(self) -> str:
        """:raises SpecError: the connection has no host, or an extra that is not known."""
        return http_address(self.get_connection(self.connect_conn_id), _EXTRA_KEYS, whose="a Connect worker's")

    def validate(self, connector: str, config: Mapping[str, str]) -> Validation:
        """Ask the plugin; Debezium's also opens a connection to the database.

        :raises ConnectorRefusedError: the cluster has no such plugin.
        """
        wanted = config.get("connector.class", "")
        classes = [plugin["class"] for plugin in self._call("GET", "/connector-plugins")]
        if not any(wanted in _names(each) for each in classes):
            finding = f"connector.class: the cluster has no plugin {wanted!r}; it has {', '.join(classes) or 'none'}"
            raise ConnectorRefusedError(connector=connector, findings=[finding])
        path = f"/connector-plugins/{quote(wanted, safe='')}/config/validate"
        fields = self._call("PUT", path, {"name": connector, **config})["configs"]
        return Validation(
            findings=tuple(f"{f['value']['name']}: {error}" for f in fields for error in f["value"]["errors"]),
            passwords=frozenset(f["definition"]["name"] for f in fields if f["definition"]["type"] == "PASSWORD"),
        )

    def connectors(self) -> list[str]:
        """Names of all that the cluster has."""
        return sorted(self._call("GET", "/connectors"))

    def config(self, connector: str) -> dict[str, str] | None:
        """The configuration as it was put, references to secrets unresolved; None when there is no such connector."""
        found = self._call("GET", f"{_path(connector)}/config")
        return None if found is None else {key: value for key, value in found.items() if key != "name"}

    def is_source(self, connector: str) -> bool:
        return (self._call("GET", _path(connector)) or {}).get("type") == "source"

    def create(self, connector: str, config: Mapping[str, str], *, state: str) -> None:
        """Make a connector in ``state``, so that one that is to be stopped never runs.

        :raises ConnectorRefusedError: the configuration is not valid, or the connector exists.
        """
        body = {"name": connector, "config": dict(config), "initial_state": state}
        self._call("POST", "/connectors", body, connector=connector)

    def update(self, connector: str, config: Mapping[str, str]) -> None:
        """Replace the configuration; the state stays as it is. :raises ConnectorRefusedError: it is not valid."""
        self._call("PUT", f"{_path(connector)}/config", dict(config), connector=connector)

    def delete(self, connector: str) -> None:
        """Delete it, if it is there. Its offsets and, in the database, its slot stay."""
        self._call("DELETE", _path(connector))

    def status(self, connector: str) -> ConnectorStatus | None:
        """None when there is no such connector, or its first state is not written yet."""
        found = self._call("GET", f"{_path(connector)}/status")
        if found is None:
            return None
        itself = Part(None, found["connector"]["state"], found["connector"].get("trace") or "")
        tasks = sorted(found["tasks"], key=lambda task: task["id"])
        return ConnectorStatus(itself, tuple(Part(t["id"], t["state"], t.get("trace") or "") for t in tasks))

    def request(self, connector: str, change: Literal["resume", "pause", "stop"]) -> None:
        """Ask for another state; :meth:`status` tells when it is reached."""
        self._call("PUT", f"{_path(connector)}/{change}")

    def restart_failed(self, connector: str) -> None:
        """Restart what failed of it: the connector, or those tasks. What runs is left alone (KIP-745)."""
        self._call("POST", f"{_path(connector)}/restart?includeTasks=true&onlyFailed=true")

    def offsets(self, connector: str) -> list[dict[str, Any]]:
        """The committed positions, each ``{"partition": ..., "offset": ...}``; none when it has committed nothing (KIP-875)."""
        return (self._call("GET", f"{_path(connector)}/offsets") or {}).get("offsets", [])

    def alter_offsets(self, connector: str, offsets: Sequence[Mapping[str, Any]]) -> None:
        """Set positions, in the form of :meth:`offsets`. :raises ConnectorRefusedError: it is not stopped."""
        self._call("PATCH", f"{_path(connector)}/offsets", {"offsets": list(offsets)}, connector=connector)

    def reset_offsets(self, connector: str) -> None:
        """Forget all positions. For a database's log: drop its slot too. :raises ConnectorRefusedError: it is not stopped."""
        self._call("DELETE", f"{_path(connector)}/offsets", connector=connector)

    @cached_property
    def _client(self) -> httpx.Client:
        import httpx

        connection = self.get_connection(self.connect_conn_id)
        return httpx.Client(
            base_url=self.url,
            auth=(connection.login, connection.password or "") if connection.login else None,
            verify=tls_context(connection.extra_dejson.get("ca_file")),
            timeout=httpx.Timeout(self.patience_seconds, connect=min(10, self.patience_seconds)),
            trust_env=False,
        )

    def _call(self, method: str, path: str, body: object = None, *, connector: str = "") -> Any:
        """The JSON answer; None when there is none, or what was asked for does not exist."""
        deadline = time.monotonic() + self.rebalance_limit_seconds
        while True:
            answer = self._send(method, path, body)
            message = _message(answer)
            if not _is_rebalancing(answer.status_code, message):
                break
            if time.monotonic() > deadline:
                raise ServiceUnavailableError(service="Kafka Connect", address=self.url, cause=message)
            time.sleep(_POLL_SECONDS)
        if answer.status_code == 404:
            return None
        if answer.status_code in (401, 403):
            raise SpecError(
                f"Kafka Connect at {self.url} refuses the login of the connection {self.connect_conn_id!r}."
            )
        if answer.status_code >= 500:
            raise ServiceUnavailableError(service="Kafka Connect", address=self.url, cause=message)
        if answer.status_code >= 400:
            raise ConnectorRefusedError(connector=connector or path, findings=[message])
        return answer.json() if answer.content else None

    def _send(self, method: str, path: str, body: object) -> httpx.Response:
        import httpx

        try:
            return self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            cause = str(error) or type(error).__name__
            raise ServiceUnavailableError(service="Kafka Connect", address=self.url, cause=cause) from error


def cause(trace: str) -> str:
    """The last ``Caused by`` of a Java stack trace, which is where it began; else its first line."""
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    begun = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (begun or lines or [""])[-1 if begun else 0][:500]


def _is_rebalancing(status_code: int, message: str) -> bool:
    """Whether the group is sharing out its work anew, after which the same request is answered.

    Most requests answer 409 then; a few do not map that exception and answer 500 with its text.
    """
    if status_code == _CONFLICT:
        return "already exists" not in message
    return status_code == _SERVER_ERROR and "rebalance" in message


def _path(connector: str) -> str:
    return f"/connectors/{quote(connector, safe='')}"


def _names(plugin_class: str) -> tuple[str, str, str]:
    """What a configuration may call a plugin."""
    simple = plugin_class.rsplit(".", 1)[-1]
    return plugin_class, simple, simple.removesuffix("Connector")


def _message(answer: httpx.Response) -> str:
    try:
        told = answer.json()
    except ValueError:
        told = None
    return str(told["message"]) if isinstance(told, dict) and "message" in told else f"HTTP {answer.status_code}"
