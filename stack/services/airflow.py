"""Airflow: API server, scheduler with LocalExecutor, DAG processor and triggerer, on PostgreSQL.

All configuration is in environment variables, so that the only file with secrets is `.env` (and the copy of the users' passwords
that the simple auth manager insists on reading from a file, mode 600).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg

from stack import security
from stack.errors import SettingError, ToolMissingError
from stack.health import get_json
from stack.processes import base_environment
from stack.service import Service
from stack.services import hdfs, spark
from stack.services.postgres import connect
from stack.settings import Settings

USERS = {"admin": "admin", "viewer": "viewer"}
"""User → role. A viewer reads, and starts nothing. The password is the secret ``AIRFLOW_<USER>_PASSWORD``."""


def home(settings: Settings) -> Path:
    return settings.home / "airflow"


def url(settings: Settings) -> str:
    return f"http://{settings.address('AIRFLOW')}"


def lineage_file(settings: Settings) -> Path:
    """Where the events of OpenLineage go by default, a line each; in a folder that all of Airflow's containers share."""
    return settings.logs / "lineage.jsonl"


def lineage_transport(settings: Settings) -> dict[str, Any]:
    """Where the events of OpenLineage go, in its provider's words; nothing turns it off.

    :raises SettingError: TALLYCLERK_LINEAGE is none of what it may be.
    """
    stated = settings.option("LINEAGE")
    file = {"type": "file", "log_file_path": str(lineage_file(settings)), "append": True}
    if stated in ("file", "off"):
        return file if stated == "file" else {}
    if stated.startswith(("http://", "https://")):
        # a server that is away shall cost no task its event, nor the file its line
        transports = {"file": file, "server": {"type": "http", "url": stated, "timeout": 5}}
        return {"type": "composite", "continue_on_failure": True, "transports": transports}
    try:
        transport = json.loads(stated)
    except json.JSONDecodeError:
        transport = None
    if not isinstance(transport, dict) or "type" not in transport:
        raise SettingError(
            f"TALLYCLERK_LINEAGE={stated!r} is neither file, nor off, nor the URL of a server, nor a transport of OpenLineage as a "
            'JSON object, such as {"type": "console"}'
        )
    return transport


def environment(settings: Settings) -> dict[str, str]:
    """Everything that Airflow's processes, its command line and its tasks read."""
    path = [str(settings.root / ".venv" / "bin"), f"{spark.spark_home(settings)}/bin", os.environ.get("PATH", "")]
    password = settings.secret("AIRFLOW_DB_PASSWORD")
    database = f"airflow:{password}@{settings.address('POSTGRES')}/airflow"
    if parameters := security.postgres_parameters(settings):
        database += f"?{urlencode(parameters)}"
    return {
        **hdfs.environment(settings),
        **spark.environment(settings),
        "PATH": os.pathsep.join(path),
        # so that DAGs can import `include`
        "PYTHONPATH": str(settings.root),
        "AIRFLOW_HOME": str(home(settings)),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.root / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(settings.root / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": settings.option("AIRFLOW_PARALLELISM"),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url(settings)}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": settings.secret("FERNET_KEY"),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_password_file(settings)),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
        "AIRFLOW__API__HOST": settings.listen("AIRFLOW"),
        "AIRFLOW__API__PORT": str(settings.port("AIRFLOW")),
        "AIRFLOW__API__BASE_URL": settings.option("AIRFLOW_URL") or url(settings),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API__SECRET_KEY": settings.secret("API_SECRET_KEY"),
        "AIRFLOW__API_AUTH__JWT_SECRET": settings.secret("JWT_SECRET"),
        # a new DAG file is seen in seconds; a file that did not change is parsed again only now and then
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__OPENLINEAGE__NAMESPACE": "tallyclerk",
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage_transport(settings)),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.logs / "airflow"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(settings.logs / "airflow" / "dag_processor"),
    }


def run_airflow(settings: Settings, *arguments: str) -> None:
    """Runs `airflow <arguments>` against this instance, its output in a log.

    :raises ToolMissingError: it failed; the message holds its last lines.
    """
    settings.logs.mkdir(parents=True, exist_ok=True)
    log = settings.logs / f"airflow-{'-'.join(arguments[:2])}.log"
    command = [str(settings.root / ".venv" / "bin" / "airflow"), *arguments]
    with log.open("w") as output:
        done = subprocess.run(
            command,
            env={**base_environment(), **environment(settings)},
            cwd=settings.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise ToolMissingError(f"airflow {' '.join(arguments)} failed ({log}):\n{tail}")


def _password_file(settings: Settings) -> Path:
    return home(settings) / "passwords.json"


def _database_version(settings: Settings) -> str:
    """What the database must have been migrated for: this Airflow, in this database."""
    with connect(settings, "airflow") as connection:
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = 'airflow'").fetchone()
    return f"{importlib.metadata.version('apache-airflow')} {row}"


def _is_migrated(settings: Settings, since: float) -> bool:
    stamp = home(settings) / "migrated"
    try:
        return stamp.exists() and stamp.read_text() == _database_version(settings)
    except psycopg.OperationalError:
        return False


def migrate(settings: Settings) -> None:
    """Airflow's tables, as this version wants them; idempotent."""
    home(settings).mkdir(parents=True, exist_ok=True)
    run_airflow(settings, "db", "migrate")
    (home(settings) / "migrated").write_text(_database_version(settings))


def _settings_file(settings: Settings) -> Path:
    return settings.root / settings.option("AIRFLOW_SETTINGS")


def _settings_checksum(settings: Settings) -> str:
    content = _settings_file(settings).read_text() + json.dumps(settings.variables(), sort_keys=True)
    content += (home(settings) / "migrated").read_text()
    return hashlib.sha256(content.encode()).hexdigest()


def _settings_loaded(settings: Settings, since: float) -> bool:
    stamp = home(settings) / "settings-loaded"
    return _is_migrated(settings, since) and stamp.exists() and stamp.read_text() == _settings_checksum(settings)


def load_airflow_settings(settings: Settings) -> None:
    """Connections, pools and variables, from the settings file; idempotent."""
    settings.landing.mkdir(parents=True, exist_ok=True)
    run_airflow(settings, "tallyclerk", "load-settings", str(_settings_file(settings)))
    (home(settings) / "settings-loaded").write_text(_settings_checksum(settings))


def _write_passwords(settings: Settings) -> None:
    path = _password_file(settings)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump({user: settings.secret(f"AIRFLOW_{user.upper()}_PASSWORD") for user in USERS}, stream)


def _component(settings: Settings, name: str, since: float) -> bool:
    """Whether a component has given a sign of life after `since`: the API reports the last one for 30 s, also of a dead process."""
    answer = get_json(f"{url(settings)}/api/v2/monitor/health")
    state = answer.get(name) if isinstance(answer, dict) else None
    if not state or state.get("status") != "healthy":
        return False
    beat = state.get(f"latest_{name}_heartbeat")
    return beat is None or datetime.fromisoformat(beat).timestamp() >= since


def _process(name: str, component: str, *arguments: str, memory_mb: int) -> Service:
    return Service(
        name=f"airflow-{name}",
        group="airflow",
        depends_on=("airflow-api-server",),
        command=lambda settings: [str(settings.root / ".venv" / "bin" / "airflow"), name, *arguments],
        environment=environment,
        healthy=lambda settings, since: _component(settings, component, since),
        memory_mb=memory_mb,
    )


DATABASE = Service(
    name="airflow-database", group="airflow", depends_on=("postgres",), prepare=migrate, healthy=_is_migrated
)
SETTINGS = Service(
    name="airflow-settings",
    group="airflow",
    depends_on=("airflow-database",),
    prepare=load_airflow_settings,
    healthy=_settings_loaded,
)
API_SERVER = Service(
    name="airflow-api-server",
    group="airflow",
    depends_on=("airflow-database",),
    ports=("AIRFLOW",),
    prepare=_write_passwords,
    command=lambda settings: [str(settings.root / ".venv" / "bin" / "airflow"), "api-server"],
    environment=environment,
    healthy=lambda settings, since: _component(settings, "metadatabase", 0),
    memory_mb=350,
    url=lambda settings: f"{url(settings)} (admin, password: TALLYCLERK_AIRFLOW_ADMIN_PASSWORD in .env)",
)
# Their log servers would listen on every interface; the API server reads the same log folder itself.
SCHEDULER = _process("scheduler", "scheduler", "--skip-serve-logs", memory_mb=400)
TRIGGERER = _process("triggerer", "triggerer", "--skip-serve-logs", memory_mb=250)
DAG_PROCESSOR = _process("dag-processor", "dag_processor", memory_mb=250)
