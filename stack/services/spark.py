"""Spark standalone: one master and one worker, run from the pyspark of `.venv-spark`, with the Delta jars beside it."""

from __future__ import annotations

from pathlib import Path

from stack.errors import ToolMissingError
from stack.health import get_json
from stack.java import java_home
from stack.service import Service
from stack.settings import Settings


def spark_home(settings: Settings) -> Path:
    """The folder of pyspark.

    :raises ToolMissingError: `.venv-spark` is not installed.
    """
    homes = sorted((settings.root / ".venv-spark" / "lib").glob("python3.*/site-packages/pyspark"))
    if not homes:
        raise ToolMissingError(f"{settings.root / '.venv-spark'} holds no pyspark: run make install")
    return homes[0]


def environment(settings: Settings, role: str = "SPARK_DRIVER") -> dict[str, str]:
    """What Spark's scripts read, for the daemons and for spark-submit."""
    return {
        "JAVA_HOME": java_home(),
        "SPARK_HOME": str(spark_home(settings)),
        "SPARK_CONF_DIR": str(settings.rendered_conf / "spark"),
        "SPARK_LOCAL_IP": settings.listen(role),
        "SPARK_LOCAL_HOSTNAME": settings.host(role),
        "SPARK_LOCAL_DIRS": str(settings.data / "spark" / "local"),
        "SPARK_DAEMON_MEMORY": "512m",
        "PYSPARK_PYTHON": str(settings.root / ".venv-spark" / "bin" / "python"),
        "HADOOP_USER_NAME": "hdfs",
    }


def master_url(settings: Settings) -> str:
    return f"spark://{settings.address('SPARK_MASTER')}"


def _prepare(settings: Settings) -> None:
    for name in ("local", "events"):
        (settings.data / "spark" / name).mkdir(parents=True, exist_ok=True)


def _configure(settings: Settings) -> None:
    target = settings.rendered_conf / "spark"
    target.mkdir(parents=True, exist_ok=True)
    for source in (settings.conf / "spark").iterdir():
        (target / source.name).write_text(source.read_text())
    events = f"file://{settings.data}/spark/events"
    machine = {
        "spark.master": master_url(settings),
        "spark.driver.host": settings.host("SPARK_DRIVER"),
        "spark.driver.bindAddress": settings.listen("SPARK_DRIVER"),
        "spark.driver.extraClassPath": f"{settings.jars('spark')}/*",
        "spark.executor.extraClassPath": f"{settings.jars('spark')}/*",
        "spark.hadoop.fs.defaultFS": f"hdfs://{settings.address('HDFS')}",
        "spark.eventLog.dir": events,
        "spark.history.fs.logDirectory": events,
    }
    defaults = target / "spark-defaults.conf"
    defaults.write_text("".join(f"{key} {value}\n" for key, value in machine.items()) + defaults.read_text())


def _command(settings: Settings, role: str, port: str, ui_port: str, *more: str) -> list[str]:
    return [
        str(spark_home(settings) / "bin" / "spark-class"),
        f"org.apache.spark.deploy.{role.lower()}.{role}",
        *(
            "--host",
            settings.host(port),
            "--port",
            str(settings.port(port)),
            "--webui-port",
            str(settings.port(ui_port)),
        ),
        *more,
    ]


def _master_command(settings: Settings) -> list[str]:
    return _command(settings, "Master", "SPARK_MASTER", "SPARK_UI")


def _worker_command(settings: Settings) -> list[str]:
    size = ("--cores", settings.option("SPARK_WORKER_CORES"), "--memory", settings.option("SPARK_WORKER_MEMORY"))
    folder = ("--work-dir", str(settings.data / "spark" / "work"))
    return _command(settings, "Worker", "SPARK_WORKER", "SPARK_WORKER_UI", *size, *folder, master_url(settings))


def _master(settings: Settings) -> dict[str, object]:
    answer = get_json(f"{_url(settings)}/json/")
    return answer if isinstance(answer, dict) else {}


def _url(settings: Settings) -> str:
    return f"http://{settings.host('SPARK_MASTER')}:{settings.port('SPARK_UI')}"


def _has_worker(settings: Settings, since: float) -> bool:
    alive = _master(settings).get("aliveworkers")
    return isinstance(alive, int) and alive >= 1


MASTER = Service(
    name="spark-master",
    group="spark",
    maven=("spark",),
    ports=("SPARK_MASTER", "SPARK_UI"),
    configure=_configure,
    prepare=_prepare,
    command=_master_command,
    environment=lambda settings: environment(settings, "SPARK_MASTER"),
    healthy=lambda settings, since: _master(settings).get("status") == "ALIVE",
    memory_mb=230,
    url=_url,
)
WORKER = Service(
    name="spark-worker",
    group="spark",
    depends_on=("spark-master",),
    ports=("SPARK_WORKER", "SPARK_WORKER_UI"),
    command=_worker_command,
    environment=lambda settings: environment(settings, "SPARK_WORKER"),
    healthy=_has_worker,
    memory_mb=230,
)
