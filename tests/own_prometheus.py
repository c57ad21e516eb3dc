"""A Prometheus of a test's own, by a configuration and rules that are given as they are read from YAML."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from stack.processes import wait_until
from stack.prometheus import ensure_prometheus
from stack.settings import LOOPBACK, load_settings
from tests.second_stack import free_ports

RULES = load_settings().conf / "prometheus" / "alerts.yml"
LIMIT_SECONDS = 60


class Prometheus:
    """Its HTTP API. Nothing raises while it starts or is busy: there is no answer yet, then."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **parameters: str) -> Any:
        """The ``data`` of an answer; None when there is none."""
        try:
            answer = self._client.get(path, params=parameters)
        except httpx.TransportError:
            return None
        return answer.json()["data"] if answer.is_success else None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant: ``metric`` and ``value`` of each."""
        data = self.get("/query", query=expression)
        return data["result"] if data else []

    def firing(self) -> list[dict[str, str]]:
        """The labels of each alert that fires."""
        data = self.get("/alerts")
        return [each["labels"] for each in (data["alerts"] if data else ()) if each["state"] == "firing"]

    def fires(self, alert: str, *, limit_seconds: float = LIMIT_SECONDS, **labels: str) -> bool:
        """Whether an alert with these labels fires before the limit."""
        wanted = {"alertname": alert, **labels}.items()
        return wait_until(lambda: any(each.items() >= wanted for each in self.firing()), limit_seconds)


def rules_at_once(shortened: Mapping[str, tuple[str, str]] | None = None) -> dict[str, Any]:
    """The committed rules without their times.

    :param shortened: what stands in an alert's expression, and in its place here.
    """
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule.pop("for", None)
        stated, shorter = (shortened or {}).get(rule["alert"], ("", ""))
        assert stated in rule["expr"]
        rule["expr"] = rule["expr"].replace(stated, shorter) if stated else rule["expr"]
    return rules


@contextmanager
def own_prometheus(
    folder: Path, scrape_configs: list[dict[str, Any]], rules: Mapping[str, Any] | None = None, *, interval: str = "1s"
) -> Iterator[Prometheus]:
    """It runs, and is stopped at the end.

    :param folder: an empty one, for its files; paths in the configuration are relative to it.
    :param interval: between two scrapes, and two evaluations of the rules.
    """
    (folder / "alerts.yml").write_text(yaml.safe_dump(rules or {"groups": []}))
    times = {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": "1s"}
    config = {"global": times, "rule_files": ["alerts.yml"], "scrape_configs": scrape_configs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [ensure_prometheus(load_settings()) / "prometheus", f"--config.file={folder}/prometheus.yml",
             f"--storage.tsdb.path={folder}/data", f"--web.listen-address={LOOPBACK}:{port}"],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://{LOOPBACK}:{port}/api/v1", trust_env=False, timeout=10) as client:
            running = Prometheus(client)
            assert wait_until(lambda: running.get("/status/config") is not None, LIMIT_SECONDS), (
                folder / "log"
            ).read_text()
            yield running
    finally:
        process.terminate()
        process.wait(LIMIT_SECONDS)
