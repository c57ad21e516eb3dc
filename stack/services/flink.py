"""Flink: a JobManager and one TaskManager with two slots. Jobs are submitted over REST; their checkpoints outlive both processes."""

from __future__ import annotations

import shutil
from pathlib import Path

from stack import exporter, processes, security
from stack.health import get_json
from stack.java import java
from stack.render import render, write_secret
from stack.service import Service
from stack.settings import Settings

_JOBMANAGER, _TASKMANAGER = "flink-jobmanager", "flink-taskmanager"
_MAIN = "org.apache.flink.runtime"
_JVM = ("-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")
# what Flink's serializers and Kerberos modules look into
_OPEN = (
    "lang",
    "net",
    "io",
    "nio",
    "lang.reflect",
    "text",
    "time",
    "util",
    "util.concurrent",
    "util.concurrent.atomic",
    "util.concurrent.locks",
)
_MODULES = (
    *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPEN),
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
)
_DIRECT_MEMORY = "256m"  # config.yaml: network + off-heap
_METASPACE = "256m"


def url(settings: Settings) -> str:
    """The JobManager's REST interface and its pages."""
    return f"http://{settings.address('FLINK')}"


def _data(settings: Settings) -> Path:
    return settings.data / "flink"


def _conf(settings: Settings) -> Path:
    return settings.rendered_conf / "flink"


def _login(settings: Settings) -> Path:
    return settings.home / "secrets" / "flink" / "kafka.jaas"


def _tmp(settings: Settings, name: str) -> Path:
    return _data(settings) / "tmp" / name


def _prepare_taskmanager(settings: Settings) -> None:
    _prepare(settings, _TASKMANAGER)


def _configure(settings: Settings) -> None:
    values = {
        "HOST": settings.host("FLINK"),
        "LISTEN": settings.listen("FLINK"),
        "TASKMANAGER": settings.host("FLINK_TASKMANAGER"),
        "TASKMANAGER_LISTEN": settings.listen("FLINK_TASKMANAGER"),
        "PORT": settings.port("FLINK"),
        "RPC_PORT": settings.port("FLINK_RPC"),
        "HEAP": settings.option("FLINK_HEAP"),
        "MANAGED_MEMORY": settings.option("FLINK_MANAGED_MEMORY"),
        "DATA": _data(settings),
    }
    render(settings.conf / "flink" / "config.yaml.in", _conf(settings) / "config.yaml", values)


def _prepare(settings: Settings, name: str) -> None:
    for folder in ("checkpoints", "savepoints", "uploads"):
        (_data(settings) / folder).mkdir(parents=True, exist_ok=True)
    # a killed process leaves its copy of the state there
    shutil.rmtree(_tmp(settings, name), ignore_errors=True)
    _tmp(settings, name).mkdir(parents=True)
    if (login := security.flink_login(settings)) is not None:
        write_secret(_login(settings), login)


def _prepare_jobmanager(settings: Settings) -> None:
    _prepare(settings, _JOBMANAGER)
    # One that served a dead JobManager gives it up only after heartbeat.timeout, and its tasks are lost in any case: it starts anew.
    processes.stop(
        processes.running(settings.run / f"{_TASKMANAGER}.pid"),
        mark=f"{settings.home}:{_TASKMANAGER}",
        stop_signal=15,
        grace_seconds=30,
    )


def _command(settings: Settings, name: str, main: str, *options: str) -> list[str]:
    login = (f"-Djava.security.auth.login.config={_login(settings)}",) if security.tls_folder(settings) else ()
    return [
        *(java(), *options, *_JVM, *_MODULES, *login),
        f"-Dlog4j2.configurationFile={settings.conf / 'flink' / 'log4j2.properties'}",
        *("-cp", f"{settings.jars('flink')}/*", f"{_MAIN}.{main}", "--configDir", str(_conf(settings))),
        f"-Dio.tmp.dirs={_tmp(settings, name)}",
    ]


def _jobmanager_command(settings: Settings) -> list[str]:
    # SQL is planned here, now and then: nothing runs often enough for the optimizing compiler to pay (docs/adr/0007), and
    # without it there would be 48 MB for code. Classes of each submission are unloaded only by a full collection.
    jvm = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=128m")
    sizes = ("-Xms128m", "-Xmx448m", f"-XX:MaxMetaspaceSize={_METASPACE}")
    options = (*jvm, *sizes, exporter.java_agent(settings, "FLINK"))
    return _command(settings, _JOBMANAGER, "entrypoint.StandaloneSessionClusterEntrypoint", *options)


def taskmanager_command(settings: Settings, name: str = _TASKMANAGER) -> list[str]:
    """:param name: of the folder for its temporary files, for one more beside the stack's; that one has no port for its metrics."""
    agent = (exporter.java_agent(settings, "FLINK_TASKMANAGER"),) if name == _TASKMANAGER else ()
    # a small heap on few cores: throughput is worth more than short pauses, which the heartbeat's time-out forgives
    sizes = (
        "-XX:+UseParallelGC",
        "-Xms128m",
        f"-Xmx{settings.option('FLINK_HEAP')}",
        f"-XX:MaxDirectMemorySize={_DIRECT_MEMORY}",
    )
    options = (*sizes, f"-XX:MaxMetaspaceSize={_METASPACE}", *agent)
    return _command(settings, name, "taskexecutor.TaskManagerRunner", *options)


def _answers(settings: Settings, since: float) -> bool:
    return isinstance(get_json(f"{url(settings)}/overview"), dict)


def _is_registered(settings: Settings, since: float) -> bool:
    """The JobManager has heard this very process: one that died is listed on for some seconds."""
    answer = get_json(f"{url(settings)}/taskmanagers")
    listed = answer.get("taskmanagers", []) if isinstance(answer, dict) else []
    # milliseconds since the epoch, whatever its name says
    return any(each.get("timeSinceLastHeartbeat", 0) / 1000 > since for each in listed)


JOBMANAGER = Service(
    name=_JOBMANAGER,
    group="flink",
    maven=("flink", exporter.MAVEN),
    ports=("FLINK", "FLINK_RPC", "FLINK_METRICS"),
    configure=_configure,
    prepare=_prepare_jobmanager,
    command=_jobmanager_command,
    healthy=_answers,
    memory_mb=700,
    url=url,
)
TASKMANAGER = Service(
    name=_TASKMANAGER,
    group="flink",
    depends_on=(_JOBMANAGER,),
    maven=("flink", exporter.MAVEN),
    ports=("FLINK_TASKMANAGER_METRICS",),
    configure=_configure,
    prepare=_prepare_taskmanager,
    command=taskmanager_command,
    healthy=_is_registered,
    memory_mb=1300,
)
