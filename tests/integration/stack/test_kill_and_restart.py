"""`kill -9` of any service: status tells, and the next `up` brings it back with its data."""

import socket
import time

import pytest

from stack.errors import PortTakenError, ServiceDiedError
from stack.service import Service, select
from stack.services import SERVICES, kafka, postgres, registry
from stack.services.cassandra import CASSANDRA
from stack.services.flink import JOBMANAGER, TASKMANAGER
from stack.services.hdfs import DATANODE, NAMENODE
from stack.services.kafka import KAFKA
from stack.services.postgres import POSTGRES
from stack.services.registry import REGISTRY
from stack.settings import LOOPBACK, Settings
from stack.supervisor import Supervisor
from tests.second_stack import kill

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def state(supervisor: Supervisor, service: Service) -> str:
    (status,) = supervisor.status([service])
    return status.state


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_health_says_no_when_nothing_runs(spare: Supervisor, service: Service) -> None:
    assert not service.healthy(spare.settings, time.time())
    assert state(spare, service) == "down"


def test_a_taken_port_is_refused_with_its_holder(spare: Supervisor) -> None:
    with socket.socket() as stranger:
        stranger.bind((LOOPBACK, spare.settings.port("CASSANDRA")))
        stranger.listen()
        with pytest.raises(PortTakenError, match=r"pid \d+ .*TALLYCLERK_CASSANDRA_PORT"):
            spare.up(select(SERVICES, ["cassandra"]))
    assert spare.identity(CASSANDRA) is None


def test_a_service_that_ends_at_once_shows_its_last_words(spare: Supervisor) -> None:
    broken = Service(
        name="broken",
        group="broken",
        command=lambda settings: ["bash", "-c", "echo no such luck; exit 3"],
        healthy=lambda settings, since: False,
    )
    with pytest.raises(ServiceDiedError, match="no such luck"):
        spare.up([broken])


def test_postgres_comes_back_with_its_rows(spare: Supervisor) -> None:
    spare.up(select(SERVICES, ["postgres"]))
    with postgres.connect(spare.settings, "retail") as connection:
        connection.execute("CREATE TABLE kept (id int); INSERT INTO kept VALUES (1), (2)")
    kill(spare, POSTGRES)
    assert state(spare, POSTGRES) == "down"
    assert spare.up(select(SERVICES, ["postgres"])) == [POSTGRES]
    assert state(spare, POSTGRES) == "up"
    with postgres.connect(spare.settings, "retail") as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (2,)


@pytest.mark.parametrize("victim", [NAMENODE, DATANODE], ids=lambda service: service.name)
def test_hdfs_comes_back_with_its_files(spare: Supervisor, victim: Service) -> None:
    from hdfs_native import Client, WriteOptions

    spare.up(select(SERVICES, ["hdfs"]))
    client = Client(f"hdfs://{LOOPBACK}:{spare.settings.port('HDFS')}")
    path = f"/data/raw/{victim.name}"
    with client.create(path, WriteOptions(overwrite=True)) as writer:
        writer.write(b"kept")
    kill(spare, victim)
    assert state(spare, victim) == "down"
    assert spare.up(select(SERVICES, ["hdfs"])) == [victim]
    client = Client(f"hdfs://{LOOPBACK}:{spare.settings.port('HDFS')}")
    assert bytes(client.read(path).read()) == b"kept"


def cassandra_rows(settings: Settings, *statements: str) -> list[int]:
    from cassandra.cluster import Cluster

    with Cluster([LOOPBACK], port=settings.port("CASSANDRA"), connect_timeout=60) as cluster:
        session = cluster.connect()
        session.default_timeout = 60
        for statement in statements:
            session.execute(statement)
        return sorted(row.id for row in session.execute("SELECT id FROM kept.rows"))


def test_cassandra_comes_back_with_every_acknowledged_row(spare: Supervisor) -> None:
    spare.up(select(SERVICES, ["cassandra"]))
    rows = cassandra_rows(
        spare.settings,
        "CREATE KEYSPACE kept WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
        "CREATE TABLE kept.rows (id int PRIMARY KEY)",
        *(f"INSERT INTO kept.rows (id) VALUES ({number})" for number in range(100)),
    )
    assert len(rows) == 100
    kill(spare, CASSANDRA)
    assert state(spare, CASSANDRA) == "down"
    spare.up(select(SERVICES, ["cassandra"]))
    assert cassandra_rows(spare.settings) == list(range(100))


def keys_of_transactions(address: str) -> list[int]:
    """The keys of the first hundred committed messages of partition 0, or as many as come within a minute."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": address, "group.id": "kept", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition("transactions", 0, 0)])
    found = [int(message.key()) for message in consumer.consume(100, 60)]
    consumer.close()
    return found


def test_kafka_and_the_registry_come_back_with_messages_and_schemas(spare: Supervisor) -> None:
    from confluent_kafka import Producer
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

    services = select(SERVICES, ["kafka", "registry"])
    spare.up(services)
    address = kafka.bootstrap(spare.settings)
    client = SchemaRegistryClient({"url": registry.url(spare.settings)})
    number = client.register_schema("kept-value", Schema('"string"', "AVRO"))
    producer = Producer({"bootstrap.servers": address, "transactional.id": "kept"})
    producer.init_transactions(60)
    producer.begin_transaction()
    for key in range(100):
        producer.produce("transactions", key=str(key), value=b"kept", partition=0)
    producer.commit_transaction(60)
    # killed between its answer to a commit and the markers, Kafka 4.3 can leave the transaction open for ever
    assert len(keys_of_transactions(address)) == 100
    for victim in (KAFKA, REGISTRY):
        kill(spare, victim)
        assert state(spare, victim) == "down"
    assert set(spare.up(services)) == {KAFKA, REGISTRY}
    assert client.get_latest_version("kept-value").schema_id == number
    assert client.get_compatibility() == "BACKWARD"
    assert sorted(keys_of_transactions(address)) == list(range(100))


def test_spark_worker_registers_again_when_the_master_was_killed(spare: Supervisor) -> None:
    (master,) = select(SERVICES, ["spark-master"])
    spare.up(select(SERVICES, ["spark"]))
    kill(spare, master)
    assert state(spare, master) == "down"
    spare.up(select(SERVICES, ["spark"]))
    assert {status.state for status in spare.status(select(SERVICES, ["spark"]))} == {"up"}


def test_flink_comes_back_with_both_processes_when_one_was_killed(spare: Supervisor) -> None:
    services = select(SERVICES, ["flink"])
    spare.up(services)
    kill(spare, TASKMANAGER)
    assert state(spare, TASKMANAGER) == "down"
    # the JobManager goes on listing the dead one for some seconds
    assert spare.up(services) == [TASKMANAGER]
    kill(spare, JOBMANAGER)
    former = spare.identity(TASKMANAGER)
    # the TaskManager would serve the dead JobManager on until its heartbeats time out
    assert set(spare.up(services)) == {JOBMANAGER, TASKMANAGER}
    assert spare.identity(TASKMANAGER) != former
    assert {status.state for status in spare.status(services)} == {"up"}
