"""What the user wrote is wrong: a contract, an argument, a script, a settings file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from tallyclerk.exceptions.bases import SpecError


class SpecErrors(SpecError):  # noqa: N818 - a plural of SpecError
    """All findings about one or more documents at once, each with file, path and remedy."""

    def __init__(self, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        count = len(self.findings)
        super().__init__(
            f"{count} problem{'s' if count != 1 else ''} found:\n" + "\n".join(f"  {line}" for line in self.findings)
        )


class IncompatibleSchemaError(SpecError):
    """The registry's rule for a subject refuses a schema: readers of its older messages, or of the new ones, would break."""

    def __init__(self, *, subject: str, reason: str) -> None:
        super().__init__(
            f"The schema is not compatible with what is registered under {subject!r}: {reason}. Nothing was sent. Give new "
            "columns a default (let them be null) and keep the types of old ones, or write to a new topic."
        )


class ConnectorRefusedError(SpecError):
    """Kafka Connect, or we, refuse a connector's configuration."""

    def __init__(self, *, connector: str, findings: Sequence[str]) -> None:
        self.findings = tuple(findings)
        listed = "\n".join(f"  {line}" for line in self.findings)
        super().__init__(
            f"The configuration of connector {connector!r} is refused; what runs was left as it is. Correct it and run again:\n{listed}"
        )


class FlinkRefusedError(SpecError):
    """Flink answers that it will not do it.

    :ivar told: its answer, with the Java stack traces; only their cause stands in the message.
    """

    def __init__(self, *, address: str, cause: str, told: str) -> None:
        self.cause, self.told = cause, told
        super().__init__(f"Flink at {address} refuses: {cause}. Nothing was changed.")

    def says(self, *marks: str) -> bool:
        return any(mark in self.told for mark in marks)


class FlinkSqlError(SpecError):
    """Flink cannot plan a script."""

    def __init__(self, *, job: str, cause: str) -> None:
        super().__init__(
            f"Flink cannot carry out the script of {job!r}: {cause}. Line numbers are the file's. What ran before runs on; correct the "
            "script and run again."
        )


class StateDoesNotFitError(SpecError):
    """A changed Flink script cannot go on with the state of the former one."""

    def __init__(self, *, job: str, reason: str, goes_on: str) -> None:
        self.job, self.reason = job, reason
        super().__init__(
            f"The changed script of {job!r} does not fit the state that the job has: {reason}. {goes_on} To let the new script "
            "begin without the former state, reading its topics from where it says itself, set on_incompatible='start_fresh'; "
            "else change it so that every aggregate, join and deduplication stays as it was."
        )


class VersionLostError(SpecError):
    """The version that Cassandra holds cannot be read any more."""

    def __init__(self, *, uri: str, day: date, version: int) -> None:
        super().__init__(
            f"{uri} {day}: Cassandra holds rows of version {version}, which the lake no longer has (vacuumed, or the "
            "table was made anew), so that the lake cannot tell which keys vanished since. Load with "
            'retraction="table_scan": it finds them in Cassandra itself, by their write timestamps.'
        )
