"""What must be true of the stack that is up. Nothing here changes it."""

import json
import subprocess
import sys
from uuid import uuid4

import httpx
import pytest

from stack import processes
from stack.service import select
from stack.services import SERVICES, connect, hdfs, kafka, registry
from stack.settings import LOOPBACK, ROOT, Settings
from stack.supervisor import Supervisor
from stack.topics import read_topics
from tests.listening import listeners

pytestmark = pytest.mark.integration


def test_every_service_is_up(settings: Settings) -> None:
    states = {status.service.name: status.state for status in Supervisor(settings).status(select(SERVICES, []))}
    assert set(states.values()) == {"up"}, states


def test_every_listener_of_ours_is_on_loopback(settings: Settings) -> None:
    found = listeners(settings)
    # every declared port was looked at, and whatever else these processes opened (drivers, JMX, log servers)
    assert {listener.port for listener in found} >= {
        settings.port(port) for service in select(SERVICES, []) for port in service.ports
    }
    assert [listener for listener in found if not listener.is_on_loopback] == []


def test_up_changes_nothing_when_all_is_up(settings: Settings) -> None:
    supervisor = Supervisor(settings)
    before = {service.name: supervisor.identity(service) for service in SERVICES}
    assert supervisor.up(select(SERVICES, [])) == []
    assert {service.name: supervisor.identity(service) for service in SERVICES} == before


def test_the_first_folders_are_in_hdfs(settings: Settings) -> None:
    from hdfs_native import Client

    client = Client(f"hdfs://{LOOPBACK}:{settings.port('HDFS')}")
    assert all(client.get_file_info(folder).isdir for folder in hdfs.FOLDERS)


def test_the_declared_topics_are_there(settings: Settings) -> None:
    from confluent_kafka.admin import AdminClient

    found = AdminClient({"bootstrap.servers": kafka.bootstrap(settings)}).list_topics(timeout=60).topics
    declared = {topic.name: topic.partitions for topic in read_topics(kafka.topics_file(settings))}
    assert set(declared) >= {"transactions", "products", "customers", "tallyclerk.commits"}
    assert {name: len(found[name].partitions) for name in declared if name in found} == declared


def test_the_registry_refuses_a_schema_that_breaks_readers(settings: Settings) -> None:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    def schema(*fields: dict[str, object]) -> Schema:
        return Schema(json.dumps({"type": "record", "name": "Row", "fields": fields}), "AVRO")

    client = SchemaRegistryClient({"url": registry.url(settings)})
    subject = f"stack-{uuid4().hex}-value"
    number, text = {"name": "id", "type": "long"}, {"name": "note", "type": "string"}
    client.register_schema(subject, schema(number))
    try:
        client.register_schema(subject, schema(number, {**text, "default": ""}))
        with pytest.raises(SchemaRegistryError) as caught:
            client.register_schema(subject, schema(number, {**text, "default": ""}, {"name": "must", "type": "string"}))
        assert caught.value.http_status_code == 409
        assert client.get_versions(subject) == [1, 2]
    finally:
        client.delete_subject(subject)


def test_connect_has_debezium_and_reads_passwords_from_files_of_its_own(settings: Settings) -> None:
    plugins = httpx.get(f"{connect.url(settings)}/connector-plugins", trust_env=False, timeout=60).json()
    assert "io.debezium.connector.postgresql.PostgresConnector" in {plugin["class"] for plugin in plugins}
    (secrets,) = settings.connect_secrets.iterdir()
    assert secrets.stat().st_mode & 0o777 == 0o600
    assert settings.connect_secrets.stat().st_mode & 0o777 == 0o700


def test_logical_decoding_is_on_and_passwords_are_needed(settings: Settings) -> None:
    import psycopg

    address = f"host={LOOPBACK} port={settings.port('POSTGRES')} dbname=retail user=retail"
    with psycopg.connect(f"{address} password={settings.secret('RETAIL_DB_PASSWORD')}") as connection:
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
        assert connection.execute("SELECT rolreplication FROM pg_roles WHERE rolname = 'retail'").fetchone() == (True,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"{address} password=wrong")


def test_no_secret_is_in_a_log_or_a_rendered_file(settings: Settings) -> None:
    found = [
        (path, name)
        for folder in (settings.logs, settings.rendered_conf, settings.run)
        for path in folder.rglob("*")
        if path.is_file()
        for name, secret in settings.secrets.items()
        if secret.encode() in path.read_bytes()
    ]
    assert found == []


def test_no_secret_is_on_a_command_line(settings: Settings) -> None:
    supervisor = Supervisor(settings)
    commands = [
        " ".join(process.cmdline()) for service in SERVICES for process in processes.marked(supervisor.mark(service))
    ]
    assert commands
    assert not [command for command in commands for secret in settings.secrets.values() if secret in command]


def test_status_says_so_by_its_exit_code(settings: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stack", "status", "postgres"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert str(settings.port("POSTGRES")) in done.stdout
