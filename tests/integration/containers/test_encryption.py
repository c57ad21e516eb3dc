"""With certificates, the services that hold data ask for TLS and a password, and nobody gets in without."""

from __future__ import annotations

import psycopg
import pytest

from stack import security
from stack.services import postgres
from tests.containers import Containers

pytestmark = [pytest.mark.integration, pytest.mark.long]


def test_the_first_steps_are_taken_over_tls_and_can_be_repeated(encrypted: Containers) -> None:
    for _ in range(2):
        done = encrypted.stack("init", "databases", "topics", "keyspace")
        assert done.returncode == 0, done.stderr


def test_kafka_refuses_who_shows_no_password(encrypted: Containers) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = security.kafka_client(encrypted.settings)
    admin = AdminClient(client)
    assert admin.list_topics(timeout=30).brokers
    wrong = AdminClient({**client, "sasl.password": "guessed", "log_level": 0})
    with pytest.raises(KafkaException):
        wrong.list_topics(timeout=5)
    plain = AdminClient({"bootstrap.servers": client["bootstrap.servers"], "log_level": 0})
    with pytest.raises(KafkaException):
        plain.list_topics(timeout=5)


def test_postgres_refuses_a_connection_without_tls(encrypted: Containers) -> None:
    settings = encrypted.settings
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


def test_kafka_lets_our_user_read_and_write_what_is_declared_and_nothing_else(encrypted: Containers) -> None:
    from confluent_kafka import KafkaError, KafkaException, Producer
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

    client = security.kafka_client(encrypted.settings)
    producer = Producer({**client, "transactional.id": "allowed"})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce("customers.rejected", b"written")
    producer.commit_transaction(60)

    ours, owner = AdminClient(client), AdminClient(security.kafka_admin(encrypted.settings))
    owner.create_topics([NewTopic("of_others", 1)])["of_others"].result(60)
    assert "of_others" not in ours.list_topics(timeout=60).topics
    broker = ConfigResource(ResourceType.BROKER, "1")
    refused = [
        *ours.create_topics([NewTopic("another", 1)]).values(),
        *ours.delete_topics(["customers"]).values(),
        *ours.describe_configs([broker]).values(),
    ]
    for future in refused:
        with pytest.raises(KafkaException) as caught:
            future.result(60)
        assert caught.value.args[0].code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        )


@pytest.mark.parametrize("login", [None, ("cassandra", "cassandra")])
def test_cassandra_refuses_who_has_no_login_of_ours(encrypted: Containers, login: tuple[str, str] | None) -> None:
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import Cluster, NoHostAvailable

    assert encrypted.stack("init", "keyspace").returncode == 0
    settings = encrypted.settings
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
