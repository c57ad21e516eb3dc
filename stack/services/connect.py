"""Kafka Connect: one worker in distributed mode, with Debezium for PostgreSQL and the registry's Avro converter."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from stack import exporter, security
from stack.health import get_json
from stack.render import render, write_secret
from stack.service import Service
from stack.services.kafka import java_command
from stack.settings import Settings

_CONVERTER = "io.apicurio.registry.utils.converter.AvroConverter"


def url(settings: Settings) -> str:
    return f"http://{settings.address('CONNECT')}"


def _properties(settings: Settings) -> Path:
    return settings.rendered_conf / "connect" / "connect-distributed.properties"


def _prepare(settings: Settings) -> None:
    _name_converter(settings.jars("connect") / "apicurio-converter")
    _write_secrets(settings)


def _configure(settings: Settings) -> None:
    values = {
        "KAFKA": settings.address("KAFKA"),
        "HOST": settings.host("CONNECT"),
        "LISTEN": settings.listen("CONNECT"),
        "CONNECT_PORT": settings.port("CONNECT"),
        "REPLICATION": settings.option("KAFKA_REPLICATION"),
        "PLUGINS": settings.jars("connect"),
        **security.connect_worker(settings),
    }
    render(settings.conf / "connect" / "connect-distributed.properties.in", _properties(settings), values)


def _name_converter(folder: Path) -> None:
    """Adds the manifest that the converter's jar lacks: without it the worker would have to load every class it finds."""
    manifest = folder / "manifest.jar"
    if manifest.exists():
        return
    draft = folder / f".manifest.{os.getpid()}"
    with zipfile.ZipFile(draft, "w") as jar:
        jar.writestr("META-INF/services/org.apache.kafka.connect.storage.Converter", f"{_CONVERTER}\n")
    draft.replace(manifest)


def _write_secrets(settings: Settings) -> None:
    """Passwords for connectors: a configuration names `${file:<folder>/retail.properties:password}` in their place."""
    password = settings.secret("RETAIL_DB_PASSWORD")
    write_secret(settings.connect_secrets / "retail.properties", f"user=retail\npassword={password}\n")


def _command(settings: Settings) -> list[str]:
    return java_command(
        settings,
        *("-Xms128m", f"-Xmx{settings.option('CONNECT_HEAP')}", exporter.java_agent(settings, "CONNECT")),
        main="org.apache.kafka.connect.cli.ConnectDistributed",
        arguments=(str(_properties(settings)),),
    )


def _answers(settings: Settings, since: float) -> bool:
    """The worker has joined its group and can read and write its own topics (KIP-1017)."""
    answer = get_json(f"{url(settings)}/health")
    return isinstance(answer, dict) and answer.get("status") == "healthy"


CONNECT = Service(
    name="connect",
    group="connect",
    maven=("connect", exporter.MAVEN),
    depends_on=("kafka", "registry"),
    ports=("CONNECT", "CONNECT_METRICS"),
    configure=_configure,
    prepare=_prepare,
    command=_command,
    healthy=_answers,
    memory_mb=600,
    url=url,
)
