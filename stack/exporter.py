"""The agent by which Prometheus reads a JVM's beans: on a port of its own, by the rules of `stack/conf/exporter`.

Kafka with it takes 11 to 16 MiB more of memory and no measurable time more to start; a scrape costs it 35 ms of CPU. So it is always on.
"""

from __future__ import annotations

from stack.errors import ToolMissingError
from stack.settings import Settings

MAVEN = "exporter"
"""The pom of its jar."""


def java_agent(settings: Settings, name: str) -> str:
    """The option of `java` that serves a service's metrics where the service itself listens.

    :param name: of the service in `Settings.host`; its port is `Settings.port("<name>_METRICS")`.
    :raises ToolMissingError: the agent's jar is not there.
    """
    jars = sorted(settings.jars(MAVEN).glob("jmx_prometheus_javaagent-*.jar"))
    if not jars:
        folder = settings.jars(MAVEN)
        raise ToolMissingError(f"{folder} holds no agent's jar: delete that folder, the next start fetches it again")
    rules = settings.conf / "exporter" / f"{name.lower().replace('_', '-')}.yaml"
    return f"-javaagent:{jars[0]}={settings.listen(name)}:{settings.port(f'{name}_METRICS')}:{rules}"
