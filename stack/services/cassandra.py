"""Cassandra, one node."""

from __future__ import annotations

from stack import exporter, security
from stack.errors import ToolMissingError
from stack.health import speaks_cql
from stack.java import java
from stack.render import render
from stack.service import Service
from stack.settings import Settings


def _configure(settings: Settings) -> None:
    values = {
        "STORAGE_PORT": settings.port("CASSANDRA_STORAGE"),
        "CQL_PORT": settings.port("CASSANDRA"),
        **_addresses(settings),
        **security.cassandra_node(settings),
    }
    render(
        settings.conf / "cassandra" / "cassandra.yaml.in",
        settings.rendered_conf / "cassandra" / "cassandra.yaml",
        values,
    )


def _prepare(settings: Settings) -> None:
    (settings.data / "cassandra" / "tmp").mkdir(parents=True, exist_ok=True)


def _addresses(settings: Settings) -> dict[str, str]:
    host, listen = settings.host("CASSANDRA"), settings.listen("CASSANDRA")
    # who binds every interface must say which address drivers shall use
    broadcast = "" if listen == host else f"broadcast_rpc_address: {host}\n"
    return {"HOST": host, "LISTEN": listen, "BROADCAST": broadcast}


def _command(settings: Settings) -> list[str]:
    conf, data, jars = settings.conf / "cassandra", settings.data / "cassandra", settings.jars("cassandra")
    agents = sorted(jars.glob("jamm-*.jar"))
    if not agents:
        raise ToolMissingError(f"{jars} holds no jamm jar: delete that folder, the next start fetches it again")
    heap = settings.option("CASSANDRA_HEAP")
    return [
        java(),
        f"@{conf / 'jvm17.args'}",
        *(f"-Xms{heap}", f"-Xmx{heap}", f"-javaagent:{agents[0]}", exporter.java_agent(settings, "CASSANDRA")),
        *(f"-Djava.io.tmpdir={data}/tmp", f"-Djna.tmpdir={data}/tmp"),
        *(f"-Dcassandra.storagedir={data}", f"-Dcassandra.logdir={settings.logs}/cassandra"),
        f"-Dcassandra.config=file://{settings.rendered_conf}/cassandra/cassandra.yaml",
        f"-Dlogback.configurationFile={conf}/logback.xml",
        f"-Dcassandra.jmx.local.port={settings.port('CASSANDRA_JMX')}",
        *("-cp", f"{jars}/*", "org.apache.cassandra.service.CassandraDaemon"),
    ]


CASSANDRA = Service(
    name="cassandra",
    group="cassandra",
    maven=("cassandra", exporter.MAVEN),
    ports=("CASSANDRA", "CASSANDRA_STORAGE", "CASSANDRA_JMX", "CASSANDRA_METRICS"),
    configure=_configure,
    prepare=_prepare,
    command=_command,
    healthy=lambda settings, since: speaks_cql(
        settings.host("CASSANDRA"), settings.port("CASSANDRA"), tls=security.client_context(settings)
    ),
    # SIGTERM drains: memtables are flushed and the commit log is closed
    stop_grace_seconds=120,
    memory_mb=1200,
)
