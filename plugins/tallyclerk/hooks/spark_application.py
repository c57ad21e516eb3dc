"""One Spark application: submitted, listened to, and judged by its exit code."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from airflow.providers.apache.spark.hooks.spark_submit import SparkSubmitHook
from airflow.sdk.exceptions import AirflowException

from tallyclerk.exceptions import (
    ConcurrentLoadError,
    SparkApplicationLostError,
    SparkJobError,
    SpecError,
    TallyclerkError,
)

RECEIPTS_MARK = "TALLYCLERK_RECEIPTS"
"""First word of the line by which a job of ``spark_jobs`` hands its receipts over."""
MISUSE, REFUSED, TEMPORARY = 64, 65, 75
"""Exit codes of ``spark_jobs/failures.py``; argparse ends with 2."""
STOP_SECONDS = 20
_LAST_LINES = 20
_VERDICT = re.compile(r"^\S+ \S+ ERROR spark_jobs\.failures (.*)")

log = logging.getLogger(__name__)


class SparkApplicationHook(SparkSubmitHook):
    """The Spark provider's hook, for an application whose receipts and verdict matter.

    The driver runs here (client mode), so that its output is read and its death is noticed.
    Parameters are those of the provider's hook; ``name`` stands in the errors.
    """

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.application_name = name
        self._heard = HeardReceipts()
        self._last_words = LastWords()

    def run(self, application: str) -> list[dict[str, Any]]:
        """Submit, wait for the end, return the receipts; empty when the application handed none over.

        :param application: path of the job file.
        :raises SpecError: the connection asks for cluster mode, or the job cannot do what it was asked.
        :raises SparkJobError: the data was refused.
        :raises TransientError: other applications were faster, or this one was lost. A retry is safe.
        """
        if self._connection["deploy_mode"] == "cluster":
            raise SpecError(
                f"The connection {self._conn_id!r} has deploy-mode cluster, but receipts come over the driver's output: "
                "set it to client."
            )
        self._heard, self._last_words = HeardReceipts(), LastWords()
        try:
            self.submit(application)
        except AirflowException as error:
            raise failure(self.application_name, self, self._last_words) from error
        return self._heard.receipts

    def on_kill(self) -> None:
        """End the application: it is asked to, so that it gives its executors back, and killed when it does not listen."""
        process = self._submit_sp
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.log.warning("%s does not stop; it is killed", self.application_name)
        super().on_kill()

    def _process_spark_submit_log(self, itr: Iterator[Any]) -> None:
        super()._process_spark_submit_log(self._listened(itr))

    def _listened(self, lines: Iterable[str]) -> Iterator[str]:
        for line in self._heard.listen(lines):
            self._last_words.hear(line.rstrip("\n"))
            yield line


class HeardReceipts:
    """The receipts that an application hands over on its output; none when it did not get that far."""

    def __init__(self) -> None:
        self.receipts: list[dict[str, Any]] = []

    def listen(self, lines: Iterable[str]) -> Iterator[str]:
        """The other lines."""
        for line in lines:
            mark, _, rest = line.partition(" ")
            if mark == RECEIPTS_MARK:
                self.receipts = self._parsed(rest)
            else:
                yield line

    def _parsed(self, line: str) -> list[dict[str, Any]]:
        """Output and log share a pipe, and a log message may tear a long line: then the commits alone have the receipts."""
        try:
            receipts: list[dict[str, Any]] = json.loads(line)
        except json.JSONDecodeError:
            log.warning("the receipts' line is torn; they stand in the tables' commits")
            return []
        return receipts


class LastWords:
    """What an application said last: its verdict where it gave one, else the end of its output."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_LAST_LINES)
        self._verdict: list[str] = []

    def hear(self, line: str) -> None:
        self._lines.append(line)
        if found := _VERDICT.match(line):
            self._verdict = [found[1]]
        elif self._verdict and line.startswith("  "):  # examples stand below, indented
            self._verdict.append(line)

    @property
    def text(self) -> str:
        return "\n".join(self._verdict or self._lines)


def failure(application: str, hook: SparkSubmitHook, last_words: LastWords | None = None) -> TallyclerkError:
    """The error that the exit code of a hook's failed application stands for.

    :param last_words: what the application said; the end of what the hook keeps when None.
    """
    if last_words is None:
        last_words = LastWords()
        for line in hook._last_submit_log_lines:
            last_words.hear(line)
    exit_code = hook._submit_sp.returncode if hook._submit_sp else -1
    told = last_words.text
    if exit_code in (2, MISUSE):
        return SpecError(f"The Spark application {application} cannot do this: {told}")
    if exit_code == REFUSED:
        return SparkJobError(application=application, told=told)
    if exit_code == TEMPORARY:
        return ConcurrentLoadError(load=application, cause=told)
    return SparkApplicationLostError(application=application, exit_code=exit_code, told=told)
