"""A peer's Spark application, by spark-submit on this machine's cores: without what our own settings add."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


def submit(folder: str | Path, script: str, *arguments: str, settings: Mapping[str, str] | None = None) -> None:
    """Run ``script`` with ``arguments`` on two cores.

    :param folder: for the script and its settings; the caller's to delete.
    :param settings: of Spark, beside those that keep it on loopback.
    :raises RuntimeError: it failed; the message is the end of its error output.
    """
    from stack.services.spark import environment
    from stack.settings import load_settings

    path, conf = Path(folder, "application.py"), Path(folder, "spark-conf")
    path.write_text(script)
    # not ours: neither Delta nor event logs
    conf.mkdir()
    loopback = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1", "spark.ui.enabled": "false"}
    variables = environment(load_settings())
    done = subprocess.run(
        [
            f"{variables['SPARK_HOME']}/bin/spark-submit",
            *("--master", "local[2]"),
            *(word for item in {**loopback, **(settings or {})}.items() for word in ("--conf", "=".join(item))),
            *(str(path), *arguments),
        ],
        env={**os.environ, **variables, "SPARK_CONF_DIR": str(conf)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = "\n".join(
            line for line in done.stderr.splitlines() if " INFO " not in line and not line.startswith("\tat ")
        )
        raise RuntimeError(f"spark-submit failed: {said[-2000:]}")


def kafka_jars() -> dict[str, str]:
    """The setting that adds Spark's Kafka and Avro sources."""
    from stack import jars
    from stack.settings import load_settings

    settings = load_settings()
    jars.prefetch(settings, ["spark-kafka"])
    return {"spark.driver.extraClassPath": f"{settings.jars('spark-kafka')}/*"}
