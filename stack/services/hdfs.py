"""HDFS: one NameNode and one DataNode, replication 1."""

from __future__ import annotations

import shutil
import subprocess

import httpx

from stack.errors import ToolMissingError
from stack.health import get_json
from stack.java import java
from stack.processes import base_environment
from stack.service import Service
from stack.settings import Settings

FOLDERS = ("/data/raw", "/data/processed", "/data/enriched", "/data/quarantine", "/tmp", "/spark-logs")

_OPENED = (
    *("java.io", "java.lang", "java.lang.reflect", "java.math", "java.net", "java.text", "java.util"),
    *("java.util.concurrent", "java.util.zip", "sun.security.util", "sun.security.x509"),
)
_OPTIONS = [
    *("-Xmx256m", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true", "-Xss512k"),
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
]
_NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"


def environment(settings: Settings) -> dict[str, str]:
    """What the XML files expand, for the daemons and for every client that reads them."""
    return {
        **settings.variables(),
        "TALLYCLERK_HDFS_LISTEN": settings.listen("HDFS"),
        "TALLYCLERK_HDFS_DATANODE_LISTEN": settings.listen("HDFS_DATANODE"),
        "TALLYCLERK_HDFS_DATA": str(settings.data / "hdfs"),
        "HADOOP_USER_NAME": "hdfs",
        "HADOOP_CONF_DIR": str(settings.conf / "hdfs"),
    }


def _command(settings: Settings, main_class: str) -> list[str]:
    class_path = f"{settings.conf / 'hdfs'}:{settings.data / 'hdfs-web'}:{settings.jars('hdfs')}/*"
    return [java(), *_OPTIONS, "-cp", class_path, main_class]


def _prepare_namenode(settings: Settings) -> None:
    # The Maven jars hold no webapps/ (only the tar.gz does) and the daemons refuse to start without: empty ones are enough.
    for name in ("hdfs", "datanode", "static"):
        (settings.data / "hdfs-web" / "webapps" / name).mkdir(parents=True, exist_ok=True)
    data = settings.data / "hdfs"
    if (data / "name" / "current" / "VERSION").exists():
        return
    # a DataNode keeps the old cluster's id and would refuse the new one
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    with (settings.logs / "hdfs-format.log").open("w") as log:
        command = [*_command(settings, _NAMENODE), "-format", "-nonInteractive", "-clusterId", "tallyclerk"]
        done = subprocess.run(
            command,
            env={**base_environment(), **environment(settings)},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise ToolMissingError(f"formatting the NameNode failed, see {log.name}")


def _bean(settings: Settings, daemon: str, query: str) -> dict[str, object]:
    """The first JMX bean that a daemon gives for `query`; empty when there is no answer."""
    answer = get_json(f"http://{settings.host(daemon)}:{settings.port(f'{daemon}_HTTP')}/jmx?qry=Hadoop:{query}")
    beans = answer.get("beans") if isinstance(answer, dict) else None
    return beans[0] if beans else {}


def _namenode_state(settings: Settings) -> dict[str, object]:
    return _bean(settings, "HDFS", "service=NameNode,name=FSNamesystemState")


def _namenode_answers(settings: Settings, since: float) -> bool:
    return bool(_namenode_state(settings).get("FSState"))


def is_usable(settings: Settings, since: float = 0) -> bool:
    """Files can be written, and those already there can be read.

    The NameNode answers HTTP long before, and believes for ten minutes that a dead DataNode lives: so it must be out of safe mode,
    and the DataNode itself must say that it has reported its blocks.
    """
    state = _namenode_state(settings)
    live = state.get("NumLiveDataNodes")
    if state.get("FSState") != "Operational" or not isinstance(live, int) or live < 1:
        return False
    reports = _bean(settings, "HDFS_DATANODE", "service=DataNode,name=DataNodeActivity*").get("BlockReportsNumOps")
    return isinstance(reports, int) and reports >= 1


def make_folders(settings: Settings) -> None:
    """The first folders; idempotent."""
    with httpx.Client(trust_env=False, timeout=60) as client:
        for folder in FOLDERS:
            query = {"op": "MKDIRS", "permission": "755", "user.name": "hdfs"}
            client.put(f"{_url(settings)}/webhdfs/v1{folder}", params=query).raise_for_status()


def _url(settings: Settings) -> str:
    return f"http://{settings.host('HDFS')}:{settings.port('HDFS_HTTP')}"


NAMENODE = Service(
    name="hdfs-namenode",
    group="hdfs",
    maven=("hdfs",),
    ports=("HDFS", "HDFS_HTTP"),
    prepare=_prepare_namenode,
    command=lambda settings: _command(settings, _NAMENODE),
    environment=environment,
    healthy=_namenode_answers,
    memory_mb=250,
    url=lambda settings: f"{_url(settings)}/jmx",
)
DATANODE = Service(
    name="hdfs-datanode",
    group="hdfs",
    maven=("hdfs",),
    depends_on=("hdfs-namenode",),
    ports=("HDFS_DATANODE", "HDFS_DATANODE_IPC", "HDFS_DATANODE_HTTP"),
    command=lambda settings: _command(settings, _DATANODE),
    environment=environment,
    healthy=is_usable,
    complete=make_folders,
    memory_mb=250,
)
