"""A shop of the test's own whose switches are open, and a topic of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from stack.settings import LOOPBACK, ROOT
from tallyclerk.contracts import Contract, load_contract
from tallyclerk.sources.rest_client import RestClient, RetryBudget
from tallyclerk.sources.rest_pages import RestPages
from tests.integration.kafka.topic_case import TopicCase, bootstrap_servers
from tests.second_stack import free_ports

KEY = "a-key-of-the-test"
CONTRACTS = ROOT / "include" / "contracts"


@dataclass
class RunningShop:
    """The shop's API in a process of its own."""

    port: int
    http: httpx.Client = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def plan(self, *steps: Mapping[str, Any], **settings: Any) -> None:
        """What is to go wrong from now on; nothing without arguments."""
        self.http.post("/_faults", json={"steps": list(steps), **settings}).raise_for_status()

    def requests(self) -> list[str]:
        """What was asked since the last plan."""
        return self.http.get("/_faults").raise_for_status().json()["requests"]

    def client(self, **options: Any) -> RestClient:
        budget = RetryBudget(floor_seconds=0.05, timeout_seconds=60)
        return RestClient(**{"base_url": self.url, "key": KEY, "budget": budget, **options})

    def all_products(self) -> list[dict[str, Any]]:
        """The catalogue as it is now."""
        found: list[dict[str, Any]] = []
        while page := self.look("/products", offset=len(found), limit=1000)["data"]:
            found += page
        return found

    def look(self, path: str, **params: Any) -> Any:
        """An answer that no fault strikes, and that is not counted."""
        return self.http.get(path, params=params, headers={"X-Unstruck": "1"}).raise_for_status().json()


@pytest.fixture(scope="session")
def running_shop() -> Iterator[RunningShop]:
    (port,) = free_ports(1)
    environment = {**os.environ, "TALLYCLERK_SHOP_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "include.shop", "serve", "--port", str(port), "--faults"], env=environment, cwd=ROOT
    )
    try:
        with httpx.Client(
            base_url=f"http://{LOOPBACK}:{port}",
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=120,
            trust_env=False,
        ) as http:
            deadline = time.monotonic() + 180
            answer = None
            while answer is None:
                assert process.poll() is None, "the shop ended"
                assert time.monotonic() < deadline, "the shop does not serve"
                with contextlib.suppress(httpx.TransportError):
                    answer = http.get("/health")
                time.sleep(0.1)
            yield RunningShop(port, http)
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def shop(running_shop: RunningShop) -> RunningShop:
    running_shop.plan()
    return running_shop


@pytest.fixture(scope="module")
def products() -> Contract:
    return load_contract(CONTRACTS / "products.odcs.yaml")


@pytest.fixture
def case() -> Iterator[TopicCase]:
    made = TopicCase(bootstrap_servers())
    made.create()
    yield made
    made.delete()


@pytest.fixture
def connections(shop: RunningShop, case: TopicCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operator asks Airflow for."""
    registry = {"conn_type": "http", "host": LOOPBACK, "port": int(os.environ.get("TALLYCLERK_REGISTRY_PORT", "8181"))}
    for name, fields in {
        "shop_api": {"conn_type": "http", "schema": "http", "host": LOOPBACK, "port": shop.port, "password": KEY},
        "kafka_default": {"conn_type": "kafka", "extra": {"bootstrap.servers": case.bootstrap}},
        "schema_registry_default": {**registry, "extra": {"path": "/apis/ccompat/v7"}},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))


def contract_of(case: TopicCase, folder: Path, name: str = "products") -> Path:
    """A contract of the shop under a data set's name of the test's own, so that no other load is fenced."""
    text, dataset = (CONTRACTS / f"{name}.odcs.yaml").read_text(), case.name.replace("-", "_")
    text = text.replace(f"  - name: {name}\n", f"  - name: {dataset}\n").replace(
        f"element: {name}", f"element: {dataset}"
    )
    text = text.replace(f"[{name}.", f"[{dataset}.").replace(f"topic: {name},", f"topic: {case.name},")
    path = folder / f"{case.name}.odcs.yaml"
    path.write_text(text)
    return path


def pages_of(client: RestClient, contract: Contract, **options: Any) -> RestPages:
    return RestPages(**{"client": client, "endpoint": "/products", "contract": contract, **options})
