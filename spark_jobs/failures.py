"""What can stop a job, and the exit code that tells the caller whether to try again."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from py4j.protocol import Py4JJavaError
from pyspark.errors.exceptions.base import PySparkException

# Exit codes of sysexits.h. An error that nobody classified ends a Python program with 1: the caller must be able to tell it.
MISUSE = 64  # EX_USAGE: what was asked cannot be carried out as written
REFUSED = 65  # EX_DATAERR: the data does not fit
TEMPORARY = 75  # EX_TEMPFAIL: nothing is wrong with the data, try again
_CONFLICTS = ("Concurrent", "MetadataChangedException", "ProtocolChangedException", "DeltaTableAlreadyExists")

Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


class JobError(Exception):
    """The data is wrong; running again changes nothing. Exit code 65."""


class SpecificationError(JobError):
    """What the job was asked cannot be carried out as written, whatever the data is. Exit code 64."""


class LedgerError(JobError):
    """The rows read are not all accounted for."""

    def __init__(self, load: str, counts: dict[str, int], rule: str) -> None:
        listed = ", ".join(f"{name}={count:,}" for name, count in counts.items())
        super().__init__(f"The ledger of {load} does not close ({rule}): {listed}. Nothing was committed.")


class ContentionError(Exception):
    """Another application committed to the same table since this one looked: look again. Exit code 75 when it persists."""


def with_retries(attempt: Callable[[], Answer], *, what: str, attempts: int = 5, pause_seconds: float = 1.0) -> Answer:
    """Repeat the whole of ``attempt`` (look, compute, commit) while other applications are faster.

    :raises ContentionError: they were faster each time.
    """
    for number in range(1, attempts + 1):
        try:
            return attempt()
        except (ContentionError, PySparkException, Py4JJavaError) as error:
            if not is_contention(error):
                raise
            if number == attempts:
                raise ContentionError(
                    f"{what}: other applications committed first, {attempts} times in a row. This attempt committed "
                    "nothing; run it again when they are done."
                ) from error
            log.warning("%s: another application committed first; attempt %s of %s", what, number + 1, attempts)
            time.sleep(pause_seconds * number * (0.5 + random.random()))
    raise AssertionError("unreachable")


def is_contention(error: BaseException) -> bool:
    """Whether Delta's optimistic concurrency (or our fence over it) refused the commit."""
    if isinstance(error, ContentionError):
        return True
    names = _java_class_names(error)
    return any(name.rsplit(".", 1)[-1].startswith(_CONFLICTS) for name in names if ".delta." in name)


def is_unreadable_input(error: PySparkException | Py4JJavaError) -> bool:
    """Whether Spark could not read a file to its end: it is absent, cut off, or not in the declared encoding."""
    marks = ("FAILED_READ_FILE", "PATH_NOT_FOUND", "MALFORMED_CHARACTER_CODING")
    told = error.getCondition() if isinstance(error, PySparkException) else None
    return (told or "").startswith(marks) or any(f"[{mark}" in str(error) for mark in marks)


def is_unknown_sql(error: PySparkException | Py4JJavaError) -> bool:
    """Whether Spark does not understand an expression: a word, a function, a column, or a type that does not go with it."""
    marks = ("PARSE_", "UNRESOLVED_COLUMN", "UNRESOLVED_ROUTINE", "DATATYPE_MISMATCH", "WRONG_NUM_ARGS", "INVALID_SQL")
    return isinstance(error, PySparkException) and (error.getCondition() or "").startswith(marks)


def _java_class_names(error: BaseException) -> list[str]:
    """Class names of the Java exception below a Python one, outermost first; a captured one tells only its text."""
    java = error.java_exception if isinstance(error, Py4JJavaError) else getattr(error, "_origin", None)
    names: list[str] = []
    while java is not None and len(names) < 10:
        names.append(java.getClass().getName())
        java = java.getCause()
    return names


def run_job(main: Callable[[], None]) -> None:
    """Run ``main`` and leave the process with the exit code that belongs to its outcome."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    try:
        main()
    except SpecificationError as error:
        log.error("%s", error)
        sys.exit(MISUSE)
    except JobError as error:
        log.error("%s", error)
        sys.exit(REFUSED)
    except ContentionError as error:
        log.error("%s", error)
        sys.exit(TEMPORARY)
