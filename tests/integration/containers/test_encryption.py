"""With certificates, the services that hold data ask for TLS and a password, and nobody gets in without."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from stack import security
from stack.services import postgres
from tests.containers import Containers, containers

pytestmark = [pytest.mark.integration, pytest.mark.long]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    home = tmp_path_factory.mktemp("encrypted")
    certificates = tmp_path_factory.mktemp("certificates")
    names = ("kafka", "postgres", "cassandra", "connect", "registry")
    with containers(home, *names, TLS=str(certificates), CASSANDRA_HEAP="512m") as started:
        yield started


def test_the_first_steps_are_taken_over_tls_and_can_be_repeated(running: Containers) -> None:
    for _ in range(2):
        done = running.stack("init", "databases", "topics", "keyspace")
        assert done.returncode == 0, done.stderr


def test_kafka_refuses_who_shows_no_password(running: Containers) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = security.kafka_client(running.settings)
    admin = AdminClient(client)
    assert admin.list_topics(timeout=30).brokers
    wrong = AdminClient({**client, "sasl.password": "guessed", "log_level": 0})
    with pytest.raises(KafkaException):
        wrong.list_topics(timeout=5)
    plain = AdminClient({"bootstrap.servers": client["bootstrap.servers"], "log_level": 0})
    with pytest.raises(KafkaException):
        plain.list_topics(timeout=5)


def test_postgres_refuses_a_connection_without_tls(running: Containers) -> None:
    settings = running.settings
    with postgres.connect(settings) as connection:
        assert connection.info.pgconn.ssl_in_use
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(
            host=settings.host("POSTGRES"),
            port=settings.port("POSTGRES"),
            user="postgres",
            password=settings.secret("POSTGRES_PASSWORD"),
            sslmode="disable",
        )


@pytest.mark.parametrize("login", [None, ("cassandra", "cassandra")])
def test_cassandra_refuses_who_has_no_login_of_ours(running: Containers, login: tuple[str, str] | None) -> None:
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import Cluster, NoHostAvailable

    assert running.stack("init", "keyspace").returncode == 0
    settings = running.settings
    for context in (security.client_context(settings), None):
        with (
            Cluster(
                [settings.host("CASSANDRA")],
                port=settings.port("CASSANDRA"),
                ssl_context=context,
                auth_provider=PlainTextAuthProvider(*login) if login else None,
            ) as cluster,
            pytest.raises(NoHostAvailable),
        ):
            cluster.connect()
