"""Every error of the provider, grouped by what recovers from it.

* :class:`TerminalError`: running again cannot help (terminal); a person has to act.
* :class:`SpecError`: what the user wrote is wrong (a contract, an argument, a settings file). Terminal.
* :class:`RecordError`: the data is wrong and the load refused it. Terminal until data or thresholds change.
* :class:`TransientError`: a service was away or another attempt was faster. A retry is the remedy.

Each message is a sentence that says what happened and what to do. Constructors take facts and build it.
Nothing here imports Airflow or a driver, so that any module may import it at parse time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path


class TallyclerkError(Exception):
    """Base of all errors raised on purpose by this provider."""


class TerminalError(TallyclerkError):
    """A retry cannot help."""


class SpecError(TerminalError):
    """Something the user wrote cannot be carried out as written."""


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


class RecordError(TerminalError):
    """The data does not fit, so that nothing of it was committed."""


class HeaderError(RecordError):
    """A file's header is not the contract's."""

    def __init__(self, *, path: str | Path, expected: Sequence[str], found: Sequence[str]) -> None:
        missing = [name for name in expected if name not in found]
        unknown = [name for name in found if name not in expected]
        if missing or unknown:
            detail = "; ".join(
                part
                for part in (
                    f"missing: {', '.join(missing)}" if missing else "",
                    f"not in the contract: {', '.join(unknown)}" if unknown else "",
                )
                if part
            )
        else:
            detail = "same names in another order"
        super().__init__(
            f"{path}: the header is not the contract's ({detail}). Expected {','.join(expected)!r}, "
            f"found {','.join(found)!r}. Mend the file, or change the contract's properties and its version."
        )


class DamagedFileError(RecordError):
    """A file ends early, cannot be decompressed or is not in the declared encoding."""

    def __init__(self, *, path: str | Path, damage: str) -> None:
        super().__init__(f"{path}: {damage}. Nothing was loaded; ask the sender for the file again.")


class NoInputError(RecordError):
    """A window has no file where the contract expects one."""

    def __init__(self, *, pattern: str, window: str) -> None:
        super().__init__(
            f"No file matches {pattern!r} for window {window}. Wait for the delivery, or pass allow_empty=True "
            "where a window without files is right."
        )


class TooManyRejectsError(RecordError):
    """More records were rejected than the load allows."""

    def __init__(self, *, rejected: int, read: int, limit: str, examples: Sequence[str] = ()) -> None:
        shown = "".join(f"\n  {line}" for line in examples)
        super().__init__(
            f"{rejected:,} of {read:,} records were rejected; {limit}. Nothing was committed. "
            f"Mend the data or raise the limit.{shown}"
        )


class LedgerError(RecordError):
    """The counts of a load do not add up: rows were lost or doubled on the way."""

    def __init__(self, *, load: str, counts: Mapping[str, int], rule: str) -> None:
        listed = ", ".join(f"{name}={value:,}" for name, value in counts.items())
        super().__init__(f"The ledger of {load} does not close ({rule}): {listed}. Nothing was committed.")


class OffsetsDeletedError(RecordError):
    """Messages that a load has to read are no longer in their topic."""

    def __init__(self, *, topic: str, partition: int, start: int, first: int, cause: str) -> None:
        super().__init__(
            f"{topic}[{partition}]: the load has to go on from offset {start:,}, but {cause} ({first:,} is the first offset there "
            "is). Nothing was committed. A window: write it to Kafka again. A stream: load what is missing from its own source, then let "
            "this load go on from what is there with on_deleted='record', which notes the missing offsets in the receipt. To "
            "prevent it, raise the topic's retention."
        )


class ReconcileError(RecordError):
    """Two places that must hold the same rows do not."""


class DriftError(ReconcileError):
    """The batch and the speed layer differ by more than is allowed."""

    def __init__(self, *, findings: Sequence[str], table: str) -> None:
        super().__init__(
            f"The layers differ by more than is allowed. {'; '.join(findings)}. The batch layer answers for these days all the same; "
            f"the differing rows are in {table}. Find why the stream missed or doubled them, or raise the limit."
        )


class SchemaMismatchError(TerminalError):
    """The stored table and the contract have different columns."""

    def __init__(self, *, table: str, differences: Sequence[str]) -> None:
        super().__init__(
            f"{table} does not have the contract's schema: {'; '.join(differences)}. "
            "Load into a new table, or migrate this one, and raise the contract's version."
        )


class SparkJobError(TerminalError):
    """A Spark application read what it was given and refused it."""

    def __init__(self, *, application: str, told: str) -> None:
        super().__init__(f"The Spark application {application} refused its work: {told}")


class ConnectorFailedError(TerminalError):
    """A connector or a task of it fails however often it is restarted."""

    def __init__(self, *, connector: str, restarts: int, failures: Sequence[str]) -> None:
        listed = "\n".join(f"  {line}" for line in failures)
        super().__init__(
            f"Connector {connector!r} still fails after {restarts} restart{'s' if restarts != 1 else ''}. Its offsets are kept: "
            f"remove the cause and run again, it goes on from there.\n{listed}"
        )


class FlinkJobFailedError(TerminalError):
    """A Flink job ends however often it is resumed."""

    def __init__(self, *, job: str, resumed: int, state: str, cause: str) -> None:
        super().__init__(
            f"The Flink job {job!r} ended as {state} after it was resumed {resumed} times: {cause or 'no reason is told'}. Its newest "
            "checkpoint is kept: remove the cause and run again, it goes on from there; or go back with action='rollback'."
        )


class FlinkStateLostError(TerminalError):
    """What a Flink job has to go on from is not there any more."""

    def __init__(self, *, job: str, path: str, cause: str) -> None:
        super().__init__(
            f"The Flink job {job!r} cannot go on: its state {path or '(none was ever completed)'} cannot be read ({cause}). Name another "
            "savepoint or checkpoint with savepoint_path, or begin without state with on_incompatible='start_fresh'."
        )


class SlotLostError(TerminalError):
    """A replication slot no longer has the changes that come next: some are lost to whoever followed it."""

    def __init__(self, *, slot: str, cause: str) -> None:
        super().__init__(
            f"The slot {slot} cannot be followed any further: {cause}. Changes may have been missed. Run the task once with the "
            'conf {"begin_anew": true}: it makes a new slot and sends every row again as a read one; deletions in between stay unseen.'
        )


class SlotBudgetError(TerminalError):
    """A replication slot keeps more of the log than it may."""

    def __init__(self, *, slot: str, retained_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"The slot {slot} keeps {retained_bytes:,} bytes of the database's log, more than the {limit_bytes:,} allowed, although all "
            "changes up to now were sent. A transaction that was open all the time holds it back: see pg_stat_activity (xact_start) "
            "and pg_prepared_xacts, and end it. If the disk cannot wait, drop the slot; the next run then has to begin anew."
        )


class KafkaRefusedError(TerminalError):
    """Kafka answered that it will not do it; asking again cannot help."""

    def __init__(self, *, address: str, what: str, cause: str, remedy: str) -> None:
        super().__init__(f"Kafka at {address} refused {what}: {cause}. Nothing of it is visible to readers. {remedy}")


class CassandraRefusedError(TerminalError):
    """Cassandra answered that it will not do it; asking again cannot help."""

    def __init__(self, *, address: str, cause: BaseException, remedy: str) -> None:
        super().__init__(f"Cassandra at {address} refused: {type(cause).__name__}: {cause}. {remedy}")


class SentRowsDeletedError(TerminalError):
    """The topic's retention has deleted what an unfinished load sent."""

    def __init__(self, *, topic: str, partition: int, first: int, start: int) -> None:
        super().__init__(
            f"{topic}[{partition}] begins at offset {first:,}: what this load sent from {start:,} on is deleted already, so that "
            "it cannot go on without sending rows twice. Send it anew with reload=True."
        )


class TransientError(TallyclerkError):
    """A retry may help: the load is idempotent, so repeating it is safe."""


class ServiceUnavailableError(TransientError):
    """A service did not answer, or answered that it is not ready."""

    def __init__(self, *, service: str, address: str, cause: object) -> None:
        super().__init__(
            f"{service} at {address} is not available: {cause}. The load changed nothing that a retry does not "
            "replace; check the service (`make status`)."
        )


class RepeatedPageError(TransientError):
    """A paged API leads in a circle."""

    def __init__(self, *, what: str, rows: int) -> None:
        super().__init__(
            f"The API leads in a circle: after {rows:,} rows, {what}. What was read before is kept, and a retry goes on from "
            "there; if it fails again, compare the contract's `rest` property with the API's way to page."
        )


class UnstableSourceError(TransientError):
    """A paged API moved under every reading, so that none can be believed."""

    def __init__(self, *, url: str, what: str) -> None:
        super().__init__(
            f"{url}: {what}. The load is not complete. Load when fewer rows change, in larger pages, or ask for a span of "
            "time that is over."
        )


class NotProducedError(TransientError):
    """A window's messages are not all in their topic yet."""

    def __init__(self, *, load: str, found: str) -> None:
        super().__init__(
            f"{load} is not produced yet: {found}. A retry finds it once the task that writes the window to Kafka has succeeded; "
            "let this one depend on it."
        )


class NotSignedError(TransientError):
    """A day cannot be closed yet."""

    def __init__(self, *, load: str, found: str) -> None:
        super().__init__(
            f"{load} is not signed in Cassandra: {found}. No day was closed that needs it. A retry finds it once its load has "
            "succeeded; let this task depend on that one."
        )


class ConcurrentLoadError(TransientError):
    """Another attempt committed the same window at the same time."""

    def __init__(self, *, load: str, cause: object) -> None:
        super().__init__(
            f"Another attempt committed {load} at the same time ({cause}). The retry starts from its rows."
        )


class SparkApplicationLostError(TransientError):
    """A Spark application ended without a verdict on its data: killed, out of memory, or cut off from a service."""

    def __init__(self, *, application: str, exit_code: int, told: str) -> None:
        super().__init__(
            f"The Spark application {application} ended with exit code {exit_code} before it could say whether its work is "
            f"done. It is idempotent: the retry replaces whatever was committed. Last words:\n{told}"
        )


class ConnectorNotReadyError(TransientError):
    """A connector did not reach its declared state in time."""

    def __init__(self, *, connector: str, wanted: str, found: str, limit_seconds: float) -> None:
        super().__init__(
            f"Connector {connector!r} should be {wanted} and after {limit_seconds:.0f} s is not: {found}. A retry waits on; "
            "if it stays so, see the worker's log."
        )


class FlinkJobBusyError(TransientError):
    """Somebody else is changing the same Flink job."""

    def __init__(self, *, job: str, generation: int, what: str) -> None:
        super().__init__(
            f"Generation {generation} of the Flink job {job!r} is {what} by another task at this moment. Nothing was done; a retry "
            "finds what came of it."
        )


class FlinkJobNotReadyError(TransientError):
    """A Flink job is not, or is no longer, well."""

    def __init__(self, *, job: str, found: str, limit_seconds: float) -> None:
        super().__init__(
            f"The Flink job {job!r} has not been well for {limit_seconds:.0f} s: {found}. It is left as it is, and Flink goes on "
            "trying; a retry looks again."
        )


class SlotInUseError(TransientError):
    """A replication slot cannot be dropped while somebody reads from it."""

    def __init__(self, *, slot: str, pid: int | None) -> None:
        super().__init__(
            f"The replication slot {slot!r} is still read by the server process {pid}. Nothing was dropped; end that reader, a "
            "retry then drops slot and offsets together."
        )
