"""TLS and passwords between the services, where TALLYCLERK_TLS names a folder of certificates; on one machine's loopback there is none.

The folder holds `ca.pem` and, for each service, `<service>.pem`: private key and certificate chain. `stack/certificates.py` makes one
for a trial. Passwords stay out of configuration files: Kafka reads them from `kafka.properties` in the same folder,
Kafka Connect its own from `kafka-client.properties`.

Kafka knows two users: KAFKA_USER, as which everything of ours reads and writes, may what `stack/kafka_access.py` grants; KAFKA_ADMIN, the
broker itself, may everything, and is used otherwise only where topics and grants are made.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from stack.settings import Settings

KAFKA_USER = "tallyclerk"
KAFKA_ADMIN = "broker"
CASSANDRA_USER = "tallyclerk"


def tls_folder(settings: Settings) -> Path | None:
    """The folder of certificates, None where nothing is encrypted."""
    folder = settings.option("TLS")
    return Path(folder) if folder else None


def client_context(settings: Settings) -> ssl.SSLContext | None:
    """What a client of ours verifies a service by, None where nothing is encrypted."""
    folder = tls_folder(settings)
    return ssl.create_default_context(cafile=folder / "ca.pem") if folder else None


def postgres_parameters(settings: Settings) -> dict[str, str]:
    """libpq's parameters for an encrypted connection; none where nothing is encrypted."""
    folder = tls_folder(settings)
    return {"sslmode": "verify-full", "sslrootcert": str(folder / "ca.pem")} if folder else {}


def kafka_client(settings: Settings) -> dict[str, str]:
    """librdkafka's settings, the broker's address included. They may hold a password: do not log them."""
    return _kafka_login(settings, KAFKA_USER, "KAFKA_PASSWORD")


def kafka_admin(settings: Settings) -> dict[str, str]:
    """The same, for whoever makes topics and grants."""
    return _kafka_login(settings, KAFKA_ADMIN, "KAFKA_BROKER_PASSWORD")


def _kafka_login(settings: Settings, user: str, secret: str) -> dict[str, str]:
    bootstrap = {"bootstrap.servers": settings.address("KAFKA")}
    folder = tls_folder(settings)
    if folder is None:
        return bootstrap
    return {
        **bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user,
        "sasl.password": settings.secret(secret),
        "ssl.ca.location": str(folder / "ca.pem"),
    }


def kafka_broker(settings: Settings) -> dict[str, str]:
    """What `server.properties.in` asks for."""
    folder = tls_folder(settings)
    if folder is None:
        return {"PROTOCOL": "PLAINTEXT", "SECURITY": ""}
    lines = [
        *_java_tls(folder, "ssl.keystore", f"{folder}/kafka.pem"),
        *("sasl.enabled.mechanisms=PLAIN", "sasl.mechanism.inter.broker.protocol=PLAIN"),
        "sasl.mechanism.controller.protocol=PLAIN",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        f"super.users=User:{KAFKA_ADMIN}",
        *_file_provider(folder),
        *(
            f"listener.name.{listener}.plain.sasl.jaas.config=${{file:{folder}/kafka.properties:broker}}"
            for listener in ("sasl_ssl", "controller")
        ),
    ]
    return {"PROTOCOL": "SASL_SSL", "SECURITY": "".join(f"{line}\n" for line in lines)}


def connect_worker(settings: Settings) -> dict[str, str]:
    """What `connect-distributed.properties.in` asks for: the worker, and its clients of Kafka."""
    folder = tls_folder(settings)
    if folder is None:
        return {"SECURITY": "", "SECRETS": str(settings.connect_secrets)}
    lines = [
        f"{prefix}{line}"
        for prefix in ("", "producer.", "consumer.", "admin.")
        for line in (
            "security.protocol=SASL_SSL",
            "sasl.mechanism=PLAIN",
            f"sasl.jaas.config=${{file:{folder}/kafka-client.properties:client}}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={folder}/ca.pem",
        )
    ]
    return {
        "SECURITY": "".join(f"{line}\n" for line in lines),
        "SECRETS": f"{settings.connect_secrets},{folder}/kafka-client.properties",
    }


def flink_login(settings: Settings) -> str | None:
    """The JAAS file with which Flink's Kafka clients log in, None where nobody does. It holds a password.

    Scripts name TLS and the kind of login only: Flink's pages show them to everybody.
    """
    if tls_folder(settings) is None:
        return None
    # the SQL connector brings Kafka's classes under a name of its own
    module = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.plain.PlainLoginModule"
    password = settings.secret("KAFKA_PASSWORD")
    return f'KafkaClient {{\n  {module} required\n  username="{KAFKA_USER}"\n  password="{password}";\n}};\n'


def cassandra_node(settings: Settings) -> dict[str, str]:
    """What `cassandra.yaml.in` asks for."""
    folder = tls_folder(settings)
    if folder is None:
        return {"AUTHENTICATOR": "AllowAllAuthenticator", "AUTHORIZER": "AllowAllAuthorizer", "ENCRYPTION": ""}
    lines = (
        "client_encryption_options:",
        "  enabled: true",
        "  optional: false",
        "  ssl_context_factory:",
        "    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory",
        f"  keystore: {folder}/cassandra.pem",
        f"  truststore: {folder}/ca.pem",
    )
    return {
        "AUTHENTICATOR": "PasswordAuthenticator",
        "AUTHORIZER": "CassandraAuthorizer",
        "ENCRYPTION": "".join(f"{line}\n" for line in lines),
    }


def postgres_server(settings: Settings) -> dict[str, str]:
    """What `postgresql.conf.in` and `pg_hba.conf.in` ask for."""
    folder = tls_folder(settings)
    if folder is None:
        return {"TYPE": "host   ", "SECURITY": ""}
    # key and chain in one file; without containers it is copied into the data, because the server's user may not enter the folder
    pem = f"{folder}/postgres.pem" if settings.option("LISTEN") else "postgres.pem"
    return {"TYPE": "hostssl", "SECURITY": f"ssl = on\nssl_cert_file = '{pem}'\nssl_key_file = '{pem}'\n"}


def _java_tls(folder: Path, prefix: str, keystore: str) -> list[str]:
    return [
        *(f"{prefix}.type=PEM", f"{prefix}.location={keystore}"),
        *("ssl.truststore.type=PEM", f"ssl.truststore.location={folder}/ca.pem"),
    ]


def _file_provider(folder: Path) -> list[str]:
    provider = "org.apache.kafka.common.config.provider.FileConfigProvider"
    return [
        *("config.providers=file", f"config.providers.file.class={provider}"),
        f"config.providers.file.param.allowed.paths={folder}/kafka.properties",
    ]
