"""`python -m stack init` against the stack that is up, twice: what is there stays as it is."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import pytest

from stack.first_structures import STEPS
from stack.services import hdfs, kafka, postgres, registry
from stack.settings import ROOT, Settings, load_settings

pytestmark = [pytest.mark.integration, pytest.mark.long]


def state(settings: Settings) -> dict[str, Any]:
    """What each service itself tells of its structures."""
    from cassandra.cluster import Cluster
    from confluent_kafka.admin import AdminClient

    with postgres.connect(settings, "airflow") as connection:
        connections = connection.execute(
            "SELECT id, conn_id, conn_type, host, port FROM connection ORDER BY id"
        ).fetchall()
        databases = connection.execute("SELECT oid, datname FROM pg_database ORDER BY oid").fetchall()
    with postgres.connect(settings, "retail") as connection:
        row = connection.execute("SELECT count(*), min(household_id), max(household_id) FROM customers").fetchone()
    web = f"http://{settings.host('HDFS')}:{settings.port('HDFS_HTTP')}/webhdfs/v1"
    with httpx.Client(trust_env=False, timeout=60) as client:
        folders = {
            folder: client.get(f"{web}{folder}", params={"op": "GETFILESTATUS"}).json()["FileStatus"]["fileId"]
            for folder in hdfs.FOLDERS
        }
        compatibility = client.get(f"{registry.url(settings)}/config").json()
    declared = {topic.name for topic in kafka.read_topics(kafka.topics_file(settings))}
    topics = AdminClient({"bootstrap.servers": kafka.bootstrap(settings)}).list_topics(timeout=60).topics
    with Cluster([settings.host("CASSANDRA")], port=settings.port("CASSANDRA"), connect_timeout=60) as cluster:
        query = "SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = 'pipeline'"
        tables = {row.table_name: row.id for row in cluster.connect().execute(query)}
    return {
        "connections": connections,
        "databases": databases,
        "customers": row,
        "folders": folders,
        "compatibility": compatibility,
        "topics": {name: len(topics[name].partitions) for name in declared},
        "tables": tables,
    }


def test_every_step_leaves_the_same_state_when_it_is_taken_again() -> None:
    settings = load_settings()
    command = [sys.executable, "-m", "stack", "init", *STEPS]

    def take() -> dict[str, Any]:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return state(settings)

    first = take()
    assert {"transactions", "customer_kpis"} <= set(first["tables"])
    assert first["customers"][0] > 0
    assert take() == first


def test_an_unknown_step_is_refused_with_those_there_are() -> None:
    command = [sys.executable, "-m", "stack", "init", "nothing"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "keyspace" in done.stderr
