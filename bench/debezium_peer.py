"""A peer: Debezium on the running Connect, as the pipeline's own connector has it, without snapshot and heartbeat."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure import ROOT

if TYPE_CHECKING:
    from bench.change_capture import Setting

_LIMIT_SECONDS = 900.0


def run(setting: Setting, events: int, change: Callable[[], None], pid: int) -> dict[str, Any]:
    """What Debezium costs for the same changes, and how long it takes."""
    import httpx

    connector, topic = f"{setting.name}-debezium", f"{setting.name}_dbz.{setting.table}"
    api = httpx.Client(base_url=setting.connect, timeout=120, trust_env=False)
    api.put(f"/connectors/{connector}/config", json=_debezium_config(setting)).raise_for_status()
    try:
        _wait(lambda: _states(api, connector) == ["RUNNING", "RUNNING"], "the connector runs")
        _wait(lambda: _slot_is_active(setting), "Debezium reads its slot")
        api.put(f"/connectors/{connector}/stop").raise_for_status()
        _wait(lambda: _states(api, connector) == ["STOPPED"], "the connector is stopped")
        change()
        idle_cpu, idle_from = _cpu(pid), time.monotonic()
        time.sleep(20)
        idle = (_cpu(pid) - idle_cpu) / (time.monotonic() - idle_from)
        cpu, began = _cpu(pid), time.monotonic()
        api.put(f"/connectors/{connector}/resume").raise_for_status()
        wall = _count(setting, topic, events) - began
        used = _cpu(pid) - cpu - idle * (time.monotonic() - began)
        return {
            "cpu_seconds": round(used, 2),
            "wall_seconds": round(wall, 2),
            "peak_rss_mib": _rss_mib(pid),
            "rows": events,
        }
    finally:
        # first stopped: a task that is still on its way out makes its slot again
        api.put(f"/connectors/{connector}/stop")
        _wait(lambda: _states(api, connector) in ([], ["STOPPED"]), "the connector is stopped")
        api.delete(f"/connectors/{connector}")
        _drop_slot(setting)


def _debezium_config(setting: Setting) -> dict[str, str]:
    """The pipeline's own connector, for this table, from the slot's position on."""
    from jinja2 import Environment, StrictUndefined
    from psycopg.conninfo import conninfo_to_dict

    from stack.settings import load_settings

    database = conninfo_to_dict(setting.uri)
    registry = setting.registry.removeprefix("http://").partition("/")[0].partition(":")
    # as Airflow gives its connections to a template
    conn = {
        "shop_db": {
            "host": database["host"], "port": database["port"], "schema": database["dbname"], "login": database["user"],
            "extra_dejson": {},
        },
        "connect_default": {"extra_dejson": {"secrets_folder": load_settings().connect_secrets}},
        "schema_registry_default": {"host": registry[0], "port": registry[2]},
    }  # fmt: skip
    declared = (ROOT / "include" / "connect" / "customers-debezium.json").read_text(encoding="utf-8")
    template = Environment(undefined=StrictUndefined, autoescape=False).from_string(declared)
    config = json.loads(template.render(conn=conn))
    del config["heartbeat.interval.ms"], config["heartbeat.action.query"]
    return {
        **config,
        "slot.name": f"{setting.name}_dbz",
        "publication.name": f"{setting.name}_dbz",
        "table.include.list": setting.table,
        "topic.prefix": f"{setting.name}_dbz",
        "snapshot.mode": "no_data",
    }


def _states(api: Any, connector: str) -> list[str]:
    answer = api.get(f"/connectors/{connector}/status")
    if answer.status_code != 200:
        return []
    status = answer.json()
    return [status["connector"]["state"], *(task["state"] for task in status["tasks"])]


def _slot_is_active(setting: Setting) -> bool:
    import psycopg

    with psycopg.connect(setting.uri) as connection:
        found = connection.execute(
            "SELECT active FROM pg_replication_slots WHERE slot_name = %s", [f"{setting.name}_dbz"]
        )
        return found.fetchone() == (True,)


def _drop_slot(setting: Setting) -> None:
    import psycopg

    def dropped() -> bool:
        with psycopg.connect(setting.uri, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s AND NOT active",
                [f"{setting.name}_dbz"],
            )
            return not connection.execute(
                "SELECT FROM pg_replication_slots WHERE slot_name = %s", [f"{setting.name}_dbz"]
            ).fetchone()

    _wait(dropped, "Debezium leaves its slot")


def _count(setting: Setting, topic: str, events: int) -> float:
    """Read until as many events are there, tombstones aside; the moment at which they are."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": setting.bootstrap, "group.id": f"{setting.name}-count", "enable.auto.commit": False,
            "isolation.level": "read_committed", "auto.offset.reset": "earliest",
        }
    )  # fmt: skip
    _wait(lambda: topic in consumer.list_topics(timeout=60).topics, f"the topic {topic} is made")
    consumer.assign(
        [TopicPartition(topic, number, 0) for number in consumer.list_topics(topic).topics[topic].partitions]
    )
    found, deadline = 0, time.monotonic() + _LIMIT_SECONDS
    try:
        while found < events:
            found += sum(
                message.value() is not None for message in consumer.consume(10_000, 1.0) if not message.error()
            )
            if time.monotonic() > deadline:
                raise RuntimeError(f"only {found:,} of {events:,} events came")
    finally:
        consumer.close()
    return time.monotonic()


def _wait(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited in vain: {what}")
        time.sleep(0.2)


def _cpu(pid: int) -> float:
    fields = Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def _rss_mib(pid: int) -> float:
    lines = Path("/proc", str(pid), "status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024, 1)
