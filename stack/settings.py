"""Where the stack lives and where it listens: the environment first, then `.env`, then the defaults below."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stack.dotenv_file import SECRET_NAMES, ensure_dotenv, read_dotenv
from stack.errors import SettingError

ROOT = Path(__file__).resolve().parent.parent
LOOPBACK = "127.0.0.1"
MARK = "TALLYCLERK_SERVICE"
"""The variable by which processes of ours, and their children, are known: `<home>:<service>`."""

PORTS: Mapping[str, int] = {
    "TALLYCLERK_POSTGRES_PORT": 5433,
    "TALLYCLERK_HDFS_PORT": 8020,
    "TALLYCLERK_HDFS_HTTP_PORT": 9870,
    "TALLYCLERK_HDFS_DATANODE_PORT": 9866,
    "TALLYCLERK_HDFS_DATANODE_IPC_PORT": 9867,
    "TALLYCLERK_HDFS_DATANODE_HTTP_PORT": 9864,
    "TALLYCLERK_SPARK_MASTER_PORT": 7077,
    "TALLYCLERK_SPARK_UI_PORT": 8080,
    "TALLYCLERK_SPARK_WORKER_PORT": 7078,
    "TALLYCLERK_SPARK_WORKER_UI_PORT": 8090,
    "TALLYCLERK_CASSANDRA_PORT": 9042,
    "TALLYCLERK_CASSANDRA_STORAGE_PORT": 7000,
    "TALLYCLERK_CASSANDRA_JMX_PORT": 7199,
    "TALLYCLERK_AIRFLOW_PORT": 8082,
    "TALLYCLERK_SHOP_PORT": 8070,
    "TALLYCLERK_KAFKA_PORT": 9092,
    "TALLYCLERK_KAFKA_CONTROLLER_PORT": 9093,
    "TALLYCLERK_REGISTRY_PORT": 8181,
    "TALLYCLERK_REGISTRY_MANAGEMENT_PORT": 8182,
    "TALLYCLERK_CONNECT_PORT": 8183,
    "TALLYCLERK_FLINK_PORT": 8081,
    "TALLYCLERK_FLINK_RPC_PORT": 6123,
    "TALLYCLERK_CASSANDRA_METRICS_PORT": 9501,
    "TALLYCLERK_KAFKA_METRICS_PORT": 9502,
    "TALLYCLERK_CONNECT_METRICS_PORT": 9503,
    "TALLYCLERK_FLINK_METRICS_PORT": 9504,
    "TALLYCLERK_FLINK_TASKMANAGER_METRICS_PORT": 9505,
    "TALLYCLERK_PROMETHEUS_PORT": 9090,
}
"""Every port of the stack by the variable that overrides it."""

HOSTS = (
    *("TALLYCLERK_POSTGRES_HOST", "TALLYCLERK_HDFS_HOST", "TALLYCLERK_HDFS_DATANODE_HOST", "TALLYCLERK_CASSANDRA_HOST"),
    *("TALLYCLERK_SPARK_MASTER_HOST", "TALLYCLERK_SPARK_WORKER_HOST", "TALLYCLERK_SPARK_DRIVER_HOST"),
    *("TALLYCLERK_KAFKA_HOST", "TALLYCLERK_REGISTRY_HOST", "TALLYCLERK_CONNECT_HOST"),
    *("TALLYCLERK_FLINK_HOST", "TALLYCLERK_FLINK_TASKMANAGER_HOST", "TALLYCLERK_AIRFLOW_HOST", "TALLYCLERK_SHOP_HOST"),
    "TALLYCLERK_PROMETHEUS_HOST",
)
"""Under which name or address the others reach a service, by the variable that says it. All of them are LOOPBACK by default."""

OPTIONS: Mapping[str, str] = {
    "TALLYCLERK_LISTEN": "",
    "TALLYCLERK_AIRFLOW_URL": "",
    "TALLYCLERK_AIRFLOW_SETTINGS": "airflow_settings.yaml",
    "TALLYCLERK_TLS": "",
    "TALLYCLERK_PLAIN_HTTP": "false",
    "TALLYCLERK_CASSANDRA_REPLICATION": "1",
    "TALLYCLERK_KAFKA_REPLICATION": "1",
    "TALLYCLERK_HDFS_REPLICATION": "1",
    "TALLYCLERK_CASSANDRA_HEAP": "768m",
    "TALLYCLERK_KAFKA_HEAP": "512m",
    "TALLYCLERK_CONNECT_HEAP": "768m",
    "TALLYCLERK_FLINK_HEAP": "512m",
    "TALLYCLERK_FLINK_MANAGED_MEMORY": "512m",
    "TALLYCLERK_SPARK_WORKER_MEMORY": "3g",
    "TALLYCLERK_SPARK_WORKER_CORES": str(os.cpu_count() or 2),
    "TALLYCLERK_AIRFLOW_PARALLELISM": "6",
    "TALLYCLERK_LINEAGE": "file",
}
"""Other knobs, as text, by their variable."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One instance of the stack: its folder, its addresses and its secrets."""

    root: Path
    home: Path
    hosts: Mapping[str, str]
    ports: Mapping[str, int]
    options: Mapping[str, str]
    secrets: Mapping[str, str] = field(repr=False)

    def host(self, name: str) -> str:
        """The name or address `TALLYCLERK_<name>_HOST` by which other services and clients reach a service."""
        return self.hosts[f"TALLYCLERK_{name}_HOST"]

    def listen(self, name: str) -> str:
        """The address that a service binds: its own, unless TALLYCLERK_LISTEN says otherwise (0.0.0.0 in a container)."""
        return self.option("LISTEN") or self.host(name)

    def address(self, name: str) -> str:
        """`host:port` of a service whose host and port have one name."""
        return f"{self.host(name)}:{self.port(name)}"

    def port(self, name: str) -> int:
        """The port of `TALLYCLERK_<name>_PORT`."""
        return self.ports[f"TALLYCLERK_{name}_PORT"]

    def option(self, name: str) -> str:
        """The value of `TALLYCLERK_<name>`."""
        return self.options[f"TALLYCLERK_{name}"]

    def secret(self, name: str) -> str:
        """The secret `TALLYCLERK_<name>`.

        :raises SettingError: it is not known here: a container is given only those that it needs.
        """
        if not (value := self.secrets[f"TALLYCLERK_{name}"]):
            raise SettingError(f"TALLYCLERK_{name} has no value: set it (environment or .env), or mount it as a secret")
        return value

    @property
    def conf(self) -> Path:
        """The committed configuration files."""
        return self.root / "stack" / "conf"

    @property
    def rendered_conf(self) -> Path:
        """Configuration files with this machine's paths and ports filled in."""
        return self.home / "conf"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        return self.home / "run"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def landing(self) -> Path:
        """Where the shop's nightly export lands."""
        return self.home / "shop" / "landing"

    @property
    def connect_secrets(self) -> Path:
        """What Kafka Connect's configuration provider may read: property files, mode 600."""
        return self.home / "secrets" / "connect"

    def jars(self, service: str) -> Path:
        """The folder of a service's Maven jars."""
        return self.home / "jars" / service

    def variables(self) -> dict[str, str]:
        """Everything above as environment variables, for processes that must find this instance."""
        return {
            "TALLYCLERK_HOME": str(self.home),
            **self.hosts,
            **{name: str(port) for name, port in self.ports.items()},
            **self.options,
            **self.secrets,
            "TALLYCLERK_LANDING": str(self.landing),
            "TALLYCLERK_FLINK_JARS": str(self.jars("flink")),
            "TALLYCLERK_CONNECT_SECRETS": str(self.connect_secrets),
        }


def load_settings(
    environ: Mapping[str, str] | None = None, *, root: Path = ROOT, make_secrets: bool = True
) -> Settings:
    """Reads the settings, and makes `.env` with fresh secrets when there is none (unless told not to).

    :raises SettingError: a port is no port, two services share one, or `.env` cannot be read.
    """
    environ = os.environ if environ is None else environ
    dotenv = Path(environ.get("TALLYCLERK_ENV_FILE") or root / ".env")
    # who is given a folder of secrets has no file of them
    if make_secrets and not environ.get("TALLYCLERK_SECRETS"):
        ensure_dotenv(dotenv)
    values = {**read_dotenv(dotenv), **environ}
    ports = {name: _port(name, values.get(name), default) for name, default in PORTS.items()}
    _refuse_shared_ports(ports)
    return Settings(
        root=root,
        home=Path(values.get("TALLYCLERK_HOME") or root / ".tallyclerk").absolute(),
        hosts={name: values.get(name) or LOOPBACK for name in HOSTS},
        ports=ports,
        options={name: values.get(name) or default for name, default in OPTIONS.items()},
        secrets={name: _secret(name, values) for name in SECRET_NAMES},
    )


def _secret(name: str, values: Mapping[str, str]) -> str:
    """Its value, or what the file of its name holds in the folder that containers are given."""
    folder = values.get("TALLYCLERK_SECRETS")
    path = Path(folder, name) if folder else None
    if path is None or not path.exists():
        return values.get(name, "")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise SettingError(
            f"{path} cannot be read ({error.strerror}): let the user of this container read it, or give {name} a value"
        ) from error


def _port(name: str, text: str | None, default: int) -> int:
    if not text:
        return default
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise SettingError(f"{name}={text!r} is not a port number (1 to 65535)")
    return int(text)


def _refuse_shared_ports(ports: Mapping[str, int]) -> None:
    owners: dict[int, str] = {}
    for name, port in ports.items():
        if port in owners:
            raise SettingError(f"{name} and {owners[port]} are both {port}: give one of them another port")
        owners[port] = name
