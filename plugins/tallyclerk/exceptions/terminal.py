"""Running again cannot help: a person has to act."""

from __future__ import annotations

from collections.abc import Sequence

from tallyclerk.exceptions.bases import TerminalError


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
