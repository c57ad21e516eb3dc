"""The table of Flink jobs: what runs, from which script, and from where it can go on. Kept outside Flink, which forgets it.

A job has generations: each submission of another script, and each one that begins from another state, is a new one. Flink
refuses an id for good once its job is over, so that each has an id of its own.

================ =================================================================================================
``claimed``      it will be submitted; whoever finds it unfinished can finish it, with the same ids
``submitted``    Flink has it
``running``      it was seen well: every task ran, and a checkpoint was completed
``stopping``     it is asked to stop with a savepoint
``stopped``      it is over, ``savepoint`` is what the next goes on from
``ended``        it is over although nobody stopped it; another generation goes on from its newest checkpoint
``refused``      its script, or its state, did not fit; ``reason`` says why
``abandoned``    it was claimed and never submitted
================ =================================================================================================

All writes to this table are lightweight transactions, and all reads serial: of two tasks that change a job at once, one
claims the generation and the other one finds it claimed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tallyclerk.sinks.cassandra_client import Backoff, retrying
from tallyclerk.sinks.cassandra_statements import Statements
from tallyclerk.sinks.cassandra_table import DEFAULT_REPLICATION, create_keyspace_cql, quoted

if TYPE_CHECKING:
    from cassandra.cluster import Session

FLINK_JOBS_TABLE = "tallyclerk_flink_jobs"
CLAIMED, SUBMITTED, RUNNING, STOPPING = "claimed", "submitted", "running", "stopping"
STOPPED, ENDED, REFUSED, ABANDONED = "stopped", "ended", "refused", "abandoned"
LIVE = frozenset({SUBMITTED, RUNNING, STOPPING})
"""Statuses of a generation that is in Flink, or was when it was last heard of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One row.

    :param kind: why there is it: ``started``, ``changed``, ``rolled_back``, ``resumed`` (the former was over), ``restored``
        (a changed script was refused, and the former one goes on).
    :param script: what is submitted, placeholders filled. :param digest: of what in it matters.
    :param former: the generation before it that ran; 0 when there is none.
    :param start: savepoint or checkpoint that it begins from; None while the former one is not stopped, "" for none.
    :param checkpoint: newest one of this generation, "" while there is none; ``checkpoint_number`` grows.
    :param savepoint: with which it was stopped, or the checkpoint at which it was lost.
    :param requested_by: the run that asked for it.
    """

    number: int
    job_id: str
    kind: str
    script: str
    digest: str
    former: int = 0
    start: str | None = None
    status: str = CLAIMED
    reason: str = ""
    checkpoint: str = ""
    checkpoint_number: int = 0
    savepoint: str = ""
    requested_by: str = ""
    changed_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def newest_state(self) -> str:
        """From where another generation can go on."""
        return self.savepoint or self.checkpoint or self.start or ""

    def age_seconds(self) -> float:
        """Since its status changed."""
        return (datetime.now(UTC) - self.changed_at).total_seconds() if self.changed_at else 0.0


_COLUMNS = tuple(each.name for each in fields(Generation))
_TYPES = {"number": "int", "former": "int", "checkpoint_number": "bigint", "changed_at": "timestamp"}


class FlinkJobsTable:
    """:param job: the job's name, unique in the keyspace."""

    def __init__(self, session: Session, *, keyspace: str, job: str, backoff: Backoff, address: str) -> None:
        self._session, self._keyspace, self.job = session, keyspace, job
        self._backoff, self._address = backoff, address
        self._statements = Statements(session, backoff=backoff, address=address)
        self._name = f"{quoted(keyspace)}.{FLINK_JOBS_TABLE}"

    def create(self) -> None:
        columns = "".join(f"{name} {_TYPES.get(name, 'text')}, " for name in _COLUMNS)
        for cql in (
            create_keyspace_cql(self._keyspace, DEFAULT_REPLICATION),
            f"CREATE TABLE IF NOT EXISTS {self._name} (job text, {columns}PRIMARY KEY (job, number)) "
            "WITH CLUSTERING ORDER BY (number DESC)",
        ):
            retrying(
                lambda cql=cql: self._session.execute(cql),  # type: ignore[misc]
                backoff=self._backoff, address=self._address, what="create the table of Flink jobs",
            )  # fmt: skip

    def history(self, *, limit: int = 100) -> list[Generation]:
        """The newest generations, newest first."""
        rows = self._statements.run_serially(
            f"SELECT {', '.join(_COLUMNS)} FROM {self._name} WHERE job = ? LIMIT {limit}",  # noqa: S608
            (self.job,),
            what="read the Flink job's generations",
            is_read=True,
        )
        return [_generation(row) for row in rows]

    def generation(self, number: int) -> Generation | None:
        """The one of that number; None when there is none."""
        rows = self._statements.run_serially(
            f"SELECT {', '.join(_COLUMNS)} FROM {self._name} WHERE job = ? AND number = ?",  # noqa: S608
            (self.job, number),
            what="read a Flink job's generation",
            is_read=True,
        )
        return _generation(rows[0]) if rows else None

    def claim(self, generation: Generation) -> Generation:
        """Write a generation if nobody has that number.

        :return: what stands there now: the same, or what somebody else has claimed.
        """
        claimed = replace(generation, changed_at=_now())
        row = self._statements.run_serially(
            f"INSERT INTO {self._name} (job, {', '.join(_COLUMNS)}) VALUES (?{', ?' * len(_COLUMNS)}) IF NOT EXISTS",  # noqa: S608
            (self.job, *(getattr(claimed, name) for name in _COLUMNS)),
            what="claim a Flink job's generation",
        )[0]
        return claimed if row.applied else _generation(row)

    def change(self, generation: Generation, **facts: Any) -> Generation:
        """Write other facts of a generation; a new status sets ``changed_at``."""
        if "status" in facts:
            facts["changed_at"] = _now()
        assignments = ", ".join(f"{name} = ?" for name in facts)
        self._statements.run_serially(
            f"UPDATE {self._name} SET {assignments} WHERE job = ? AND number = ? IF EXISTS",  # noqa: S608
            (*facts.values(), self.job, generation.number),
            what="write a Flink job's state",
        )
        return replace(generation, **facts)

    def note_checkpoint(self, number: int, checkpoint_number: int, path: str) -> None:
        """Keep a completed checkpoint, unless a newer one is kept already."""
        self._statements.run_serially(
            f"UPDATE {self._name} SET checkpoint = ?, checkpoint_number = ? WHERE job = ? AND number = ? "  # noqa: S608
            "IF checkpoint_number < ?",
            (path, checkpoint_number, self.job, number, checkpoint_number),
            what="keep a Flink job's checkpoint",
        )

    def note_running(self, number: int) -> None:
        """It was seen well."""
        self._statements.run_serially(
            f"UPDATE {self._name} SET status = ? WHERE job = ? AND number = ? IF status = ?",  # noqa: S608
            (RUNNING, self.job, number, SUBMITTED),
            what="write a Flink job's state",
        )


def _generation(row: Any) -> Generation:
    facts = {name: getattr(row, name) for name in _COLUMNS}
    facts["changed_at"] = facts["changed_at"] and facts["changed_at"].replace(tzinfo=UTC)
    return Generation(**facts)


def _now() -> datetime:
    now = datetime.now(UTC)
    # as Cassandra keeps it
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
