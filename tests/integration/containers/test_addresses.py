"""The configuration that containers get, run here: every service on an address of its own, used from the others'."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stack.services import hdfs, kafka, postgres
from stack.settings import LOOPBACK
from tests.containers import Containers, containers
from tests.listening import listeners

pytestmark = [pytest.mark.integration, pytest.mark.long]

SERVICES = {
    "postgres": "POSTGRES",
    "hdfs-namenode": "HDFS",
    "hdfs-datanode": "HDFS_DATANODE",
    "kafka": "KAFKA",
    "cassandra": "CASSANDRA",
    "flink-jobmanager": "FLINK",
    "flink-taskmanager": "FLINK_TASKMANAGER",
}
"""Each with the name of its host."""


CHEAP = ("postgres", "hdfs-namenode", "hdfs-datanode", "kafka")


@pytest.fixture(
    scope="module",
    params=[pytest.param(CHEAP, id="cheap"), pytest.param(tuple(SERVICES), id="all")],
)
def names(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


@pytest.fixture(scope="module")
def running(names: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    with containers(tmp_path_factory.mktemp("containers"), *names, CASSANDRA_HEAP="512m") as started:
        yield started


def test_each_listens_on_its_own_address_only(running: Containers, names: tuple[str, ...]) -> None:
    found = {(each.service, each.address.removeprefix("::ffff:")) for each in listeners(running.settings)}
    expected = {(service, running.settings.host(SERVICES[service])) for service in names}
    # what only the process itself calls: Cassandra's management, and the pages that the DataNode's HTTP server hands on
    own = {("cassandra", LOOPBACK), ("hdfs-datanode", LOOPBACK)}
    assert found - own == expected


def state(running: Containers, with_tables: bool) -> dict[str, Any]:
    """What the first steps have made, as each service itself tells it."""
    from confluent_kafka.admin import AdminClient

    settings = running.settings
    with postgres.connect(settings) as connection:
        databases = connection.execute("SELECT oid, datname, datdba FROM pg_database ORDER BY oid").fetchall()
        roles = connection.execute("SELECT oid, rolname, rolreplication FROM pg_roles ORDER BY oid").fetchall()
    names = f"http://{settings.host('HDFS')}:{settings.port('HDFS_HTTP')}/webhdfs/v1"
    with httpx.Client(trust_env=False) as client:
        folders = {
            folder: client.get(f"{names}{folder}", params={"op": "GETFILESTATUS"}).json()["FileStatus"]["fileId"]
            for folder in hdfs.FOLDERS
        }
    topics = AdminClient({"bootstrap.servers": kafka.bootstrap(settings)}).list_topics(timeout=60).topics
    return {
        "tables": tables(running) if with_tables else {},
        "databases": databases,
        "roles": roles,
        "folders": folders,
        "topics": {name: len(topic.partitions) for name, topic in topics.items()},
    }


def tables(running: Containers) -> dict[str, Any]:
    from cassandra.cluster import Cluster

    settings = running.settings
    with Cluster([settings.host("CASSANDRA")], port=settings.port("CASSANDRA"), connect_timeout=60) as cluster:
        rows = cluster.connect().execute(
            "SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = 'pipeline'"
        )
        return {row.table_name: row.id for row in rows}


def test_the_first_steps_leave_the_same_state_when_they_are_taken_twice(
    running: Containers, names: tuple[str, ...]
) -> None:
    has_tables = "cassandra" in names
    steps = ("databases", "folders", "topics", *(["keyspace"] if has_tables else []))
    first = running.stack("init", *steps)
    assert first.returncode == 0, first.stderr
    before = state(running, has_tables)
    again = running.stack("init", *steps)
    assert again.returncode == 0, again.stderr
    assert state(running, has_tables) == before
    assert {"airflow", "retail", "registry"} <= {name for _, name, _ in before["databases"]}
    assert {"transactions", "products", "customers"} <= set(before["topics"])
    assert not has_tables or {"transactions", "customer_kpis"} <= set(before["tables"])


def test_a_file_and_a_message_pass_between_the_addresses(running: Containers) -> None:
    from confluent_kafka import Consumer, Producer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic
    from hdfs_native import Client, WriteOptions

    settings = running.settings
    client = Client(f"hdfs://{settings.address('HDFS')}", {"dfs.client.use.datanode.hostname": "true"})
    with client.create("/tmp/written", WriteOptions()) as writer:
        writer.write(b"over there")
    assert bytes(client.read("/tmp/written").read()) == b"over there"

    address = {"bootstrap.servers": kafka.bootstrap(settings)}
    admin = AdminClient(address)
    admin.create_topics([NewTopic("over_there", 1)])["over_there"].result(60)
    producer = Producer(address)
    producer.produce("over_there", b"sent")
    assert producer.flush(60) == 0
    consumer = Consumer({**address, "group.id": "over_there"})
    consumer.assign([TopicPartition("over_there", 0, 0)])
    (message,) = consumer.consume(1, 60)
    consumer.close()
    assert message.value() == b"sent"


def test_health_says_no_of_a_service_that_does_not_run(running: Containers) -> None:
    assert running.stack("healthy", "connect").returncode == 1
