"""Kafka: one node that is broker and controller (KRaft), and the declared topics."""

from __future__ import annotations

import base64
import shutil
import subprocess
import uuid
from pathlib import Path

from stack import exporter, security
from stack.errors import ToolMissingError
from stack.health import has_kafka_broker
from stack.java import java
from stack.kafka_access import grant_access
from stack.processes import base_environment
from stack.render import render
from stack.service import Service
from stack.settings import Settings
from stack.topics import ensure_topics, read_topics

JVM = ("-XX:+UseG1GC", "-XX:MaxGCPauseMillis=50", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")


def bootstrap(settings: Settings) -> str:
    """What clients call `bootstrap.servers`."""
    return settings.address("KAFKA")


def topics_file(settings: Settings) -> Path:
    return settings.root / "include" / "kafka" / "topics.yaml"


def java_command(settings: Settings, *options: str, main: str, arguments: tuple[str, ...]) -> list[str]:
    """A program of Kafka's jars: the broker, a tool, the Connect worker."""
    log4j = f"-Dlog4j2.configurationFile={settings.conf / 'kafka' / 'log4j2.properties'}"
    return [java(), *options, *JVM, log4j, "-cp", f"{settings.jars('kafka')}/*", main, *arguments]


def _properties(settings: Settings) -> Path:
    return settings.rendered_conf / "kafka" / "server.properties"


def _configure(settings: Settings) -> None:
    values = {
        "HOST": settings.host("KAFKA"),
        "LISTEN": settings.listen("KAFKA"),
        "KAFKA_PORT": settings.port("KAFKA"),
        "KAFKA_CONTROLLER_PORT": settings.port("KAFKA_CONTROLLER"),
        "DATA": settings.data / "kafka",
        "REPLICATION": settings.option("KAFKA_REPLICATION"),
        **security.kafka_broker(settings),
    }
    render(settings.conf / "kafka" / "server.properties.in", _properties(settings), values)


def _prepare(settings: Settings) -> None:
    data = settings.data / "kafka"
    if (data / "meta.properties").exists():
        return
    # what an interrupted formatting left
    shutil.rmtree(data, ignore_errors=True)
    arguments = ("format", "--standalone", "--cluster-id", _new_cluster_id(), "--config", str(_properties(settings)))
    options = ("-Xmx128m", "-Dstack.loglevel=warn")
    with (settings.logs / "kafka-format.log").open("w") as log:
        done = subprocess.run(
            java_command(settings, *options, main="kafka.tools.StorageTool", arguments=arguments),
            env=base_environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise ToolMissingError(f"formatting Kafka's log folder failed, see {log.name}")


def _new_cluster_id() -> str:
    """A random UUID as Kafka writes it: 22 characters of URL-safe base64, not beginning as an option would."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


def _command(settings: Settings) -> list[str]:
    heap = (f"-Xms{settings.option('KAFKA_HEAP')}", f"-Xmx{settings.option('KAFKA_HEAP')}")
    options = (*heap, exporter.java_agent(settings, "KAFKA"))
    return java_command(settings, *options, main="kafka.Kafka", arguments=(str(_properties(settings)),))


def make_topics(settings: Settings) -> None:
    """The declared topics, and where somebody logs in, who may use them; idempotent."""
    topics, admin = read_topics(topics_file(settings)), security.kafka_admin(settings)
    ensure_topics(admin, topics, say=print)
    if security.tls_folder(settings):
        grant_access(admin, security.KAFKA_USER, [topic.name for topic in topics])


KAFKA = Service(
    name="kafka",
    group="kafka",
    maven=("kafka", exporter.MAVEN),
    ports=("KAFKA", "KAFKA_CONTROLLER", "KAFKA_METRICS"),
    configure=_configure,
    prepare=_prepare,
    command=_command,
    healthy=lambda settings, since: has_kafka_broker(
        settings.host("KAFKA"), settings.port("KAFKA"), tls=security.client_context(settings)
    ),
    complete=make_topics,
    # SIGTERM closes the logs; after a kill they are read through at the next start
    stop_grace_seconds=120,
    memory_mb=700,
)
