"""What a day's batch costs as one Spark application, and as four: clean, enrich, customers' KPIs, departments' KPIs.

python -m bench.spark_day --date 2026-11-23 --rounds 2

Works on a copy of the lake's raw tables in a folder of its own, so that the demo's tables keep their versions. CPU seconds are user
and system time: of spark-submit and its children (driver, Python) by the kernel's own account when they end; of the executors, which
the worker starts, from /proc, twice a second until they end, so that up to half a second of each is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from stack.services.spark import environment, master_url
from stack.settings import LOOPBACK, ROOT, Settings, load_settings

JOBS = {
    "one": ("retail_batch.py",),
    "four": (
        "clean_transactions.py",
        "enrich_transactions.py",
        "compute_customer_kpis.py",
        "compute_department_kpis.py",
    ),
}
_RAW = ("raw/transactions", "raw/customers", "raw/products")
_TICKS = os.sysconf("SC_CLK_TCK")
_APPLICATION = re.compile(r"eventlog_v2_(app-[0-9]+-[0-9]+)")


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one application, or of several together."""

    driver_cpu_seconds: float
    executor_cpu_seconds: float
    wall_seconds: float

    @property
    def cpu_seconds(self) -> float:
        return self.driver_cpu_seconds + self.executor_cpu_seconds

    def __add__(self, other: Cost) -> Cost:
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return Cost(*(one + more for one, more in pairs))


class ExecutorWatch:
    """CPU of an application's executors, each as it was when last seen."""

    def __init__(self, log: Path) -> None:
        self._log, self._seen = log, dict[int, float]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._ended.set()
        self._thread.join()
        return sum(self._seen.values())

    def _watch(self) -> None:
        application = ""
        while not self._ended.wait(0.5):
            if not application and (found := _APPLICATION.search(self._log.read_text(errors="replace"))):
                application = found[1]
            if application:
                self._seen |= dict(_executors(application))


def _executors(application: str) -> Iterator[tuple[int, float]]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if application.encode() in words and b"--executor-id" in words:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                yield int(folder.name), (int(fields[11]) + int(fields[12])) / _TICKS
        except OSError:  # it ended in between
            continue


def submit(settings: Settings, job: str, lake: str, day: str, confs: Sequence[str], jobs_folder: Path) -> Cost:
    """Run one job and wait for it.

    :raises RuntimeError: it failed.
    """
    variables = {**os.environ, **environment(settings)}
    variables.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory(prefix="bench-spark-") as folder:
        log = Path(folder, "log")
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with log.open("w") as out:
            command = [f"{variables['SPARK_HOME']}/bin/spark-submit", "--master", master_url(settings)]
            command += [word for conf in confs for word in ("--conf", conf)]
            command += [str(jobs_folder / job), "--date", day, "--lake", lake]
            with subprocess.Popen(command, stdout=out, stderr=out, env=variables) as application:
                watch = ExecutorWatch(log)
                code = application.wait()
                executors = watch.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if code:
            raise RuntimeError(f"{job} ended with exit code {code}: {log.read_text(errors='replace')[-2000:]}")
    driver = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(driver, executors, time.perf_counter() - began)


@contextmanager
def copied_lake(settings: Settings) -> Iterator[str]:
    """A folder of HDFS with the raw tables, which is deleted afterwards."""
    from hdfs_native import Client

    os.environ.setdefault("HADOOP_USER_NAME", "hdfs")
    client = Client(f"hdfs://{LOOPBACK}:{settings.port('HDFS')}")
    lake = f"/tmp/bench-spark-day-{uuid4().hex[:12]}"
    try:
        for status in (found for table in _RAW for found in client.list_status(f"/data/{table}", recursive=True)):
            if not status.isdir:
                with (
                    client.read(status.path) as source,
                    client.create(lake + status.path.removeprefix("/data")) as copy,
                ):
                    copy.write(source.read())
        yield lake
    finally:
        client.delete(lake, recursive=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    parser.add_argument("--date", type=date.fromisoformat, default=yesterday, help="a day that raw/ holds")
    parser.add_argument("--rounds", type=int, default=2, help="default: %(default)s, one and four in turn")
    parser.add_argument("--ways", nargs="+", choices=JOBS, default=[*JOBS])
    parser.add_argument("--conf", action="append", default=[], help="a Spark property, name=value (repeatable)")
    parser.add_argument("--jobs", type=Path, default=ROOT / "spark_jobs", help="another version's folder of job files")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    settings, day = load_settings(), options.date.isoformat()
    costs: dict[str, list[Cost]] = {way: [] for way in options.ways}
    with copied_lake(settings) as lake:
        submit(
            settings, "retail_batch.py", lake, day, options.conf, options.jobs
        )  # makes the tables; every round finds them
        for _ in range(options.rounds):
            for way, measured in costs.items():
                parts = [submit(settings, job, lake, day, options.conf, options.jobs) for job in JOBS[way]]
                measured.append(sum(parts[1:], parts[0]))
                print(f"{way}: {measured[-1]}", flush=True)
    print(f"{'applications':<14}{'driver CPU s':>14}{'executor CPU s':>16}{'CPU s':>10}{'wall s':>10}")
    for way, measured in costs.items():
        best = min(measured, key=lambda cost: cost.cpu_seconds)
        row = (best.driver_cpu_seconds, best.executor_cpu_seconds, best.cpu_seconds, best.wall_seconds)
        print(f"{way:<14}{row[0]:>14.1f}{row[1]:>16.1f}{row[2]:>10.1f}{row[3]:>10.0f}")
    if options.json:
        options.json.write_text(
            json.dumps({way: [asdict(cost) for cost in measured] for way, measured in costs.items()})
        )


if __name__ == "__main__":
    main()
