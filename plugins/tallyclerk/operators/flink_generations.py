"""From one generation of a Flink job to the next: claimed first, so that whoever comes next can finish what was begun."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import FlinkJobBusyError, FlinkSqlError, FlinkStateLostError, StateDoesNotFitError
from tallyclerk.hooks.flink_status import OVER
from tallyclerk.operators.flink_script import FlinkScript
from tallyclerk.operators.flink_state import newest_visible, stop_with_savepoint
from tallyclerk.sinks.cassandra_flink_jobs import ENDED, REFUSED, STOPPED, STOPPING, SUBMITTED, Generation

if TYPE_CHECKING:
    from logging import Logger

    from tallyclerk.hooks.flink import FlinkHook
    from tallyclerk.sinks.cassandra_flink_jobs import FlinkJobsTable


@dataclass(frozen=True, slots=True)
class Outcome:
    """What stands now. ``did`` is a generation's kind, ``stopped`` or ``unchanged``; ``refusal`` why a change was not made."""

    generation: Generation
    did: str
    refusal: str = ""


def job_id_of(job: str, number: int, digest: str) -> str:
    """The Flink id of a job's generation: whoever submits it, it is the same job, and never one of another script."""
    return hashlib.sha256(f"{job}\n{number}\n{digest}".encode()).hexdigest()[:32]


@dataclass(slots=True, kw_only=True)
class FlinkGenerations:
    """Steps between generations. Each may be repeated, also by another task: ids follow from the claim.

    :param job: its name, of which the ids follow. :param jar: path of the SQL gateway's jar.
    :param requested_by: the Airflow run, so that a retry of a rollback does not roll back once more.
    :param on_incompatible: ``refuse`` or ``start_fresh``.
    :param savepoint_path: where a first or changed script, or a job that is lost, goes on, in place of the job's own state.
    :param limit_seconds: for a savepoint; also how long another task's unfinished change is respected.
    """

    hook: FlinkHook
    table: FlinkJobsTable
    job: str
    jar: str | Path
    log: Logger | Any
    requested_by: str = ""
    on_incompatible: str = "refuse"
    savepoint_path: str = ""
    limit_seconds: float = 600
    _seen: int = field(default=0, init=False)
    """The newest generation when it was decided what to do: a claim is for the number behind it, so that one that was decided
    upon what is no longer true finds the number taken."""

    def _history(self) -> list[Generation]:
        """What decisions are made upon."""
        rows = self.table.history()
        self._seen = rows[0].number if rows else 0
        return rows

    def _claim(
        self, kind: str, script: FlinkScript, *, former: Generation | None = None, start: str | None = None
    ) -> Generation:
        number = self._seen + 1
        wanted = Generation(
            number=number,
            job_id=job_id_of(self.job, number, script.digest),
            kind=kind,
            script=script.text,
            digest=script.digest,
            former=former.number if former else 0,
            start=start,
            requested_by=self.requested_by,
        )
        found = self.table.claim(wanted)
        if (found.digest, found.kind) != (script.digest, kind):
            raise FlinkJobBusyError(job=self.job, generation=number, what=f"being {found.kind}")
        self._seen = number
        return found

    def _carry_out(self, claim: Generation) -> Outcome:
        """Stop the former generation if it runs, then submit this one. Every step may be repeated."""
        former = self.table.generation(claim.former)
        if former is not None and former.is_live:
            former = self._stopped(former)
        if claim.start is None:
            claim = self.table.change(claim, start=former.newest_state if former else "")
        return self._submit(claim)

    def _submit(self, claim: Generation) -> Outcome:
        if (newest := self.table.history(limit=1)[0]).number != claim.number:
            raise FlinkJobBusyError(job=self.job, generation=newest.number, what=f"being {newest.kind}")
        start = claim.start or ""
        try:
            is_new = self.hook.run(self._jar_id(), claim.script, job=self.job, job_id=claim.job_id, start=start)
        except (FlinkSqlError, StateDoesNotFitError) as error:
            return self._fall_back(claim, error)
        except FlinkStateLostError as error:
            if self.on_incompatible != "start_fresh":
                raise
            self.log.warning("%s: starts without state: %s", self.job, error)
            self.table.change(claim, status=ENDED, reason=str(error))
            return self._submit(self._claim(claim.kind, _script_of(claim), start=""))
        if not is_new and self.hook.state(claim.job_id) in (None, *OVER):
            # submitted once and over since: Flink takes no id twice
            return self._resumed(claim)
        self._cancel_strays(claim)
        self.log.info("%s: generation %d is %s from %s", self.job, claim.number, claim.kind, start or "no state")
        return Outcome(self.table.change(claim, status=SUBMITTED), claim.kind)

    def _fall_back(self, claim: Generation, error: FlinkSqlError | StateDoesNotFitError) -> Outcome:
        """A script is refused after the former was stopped: start it fresh where that is allowed, else let the former go on."""
        reason = error.reason if isinstance(error, StateDoesNotFitError) else str(error)
        self.table.change(claim, status=REFUSED, reason=reason)
        if isinstance(error, StateDoesNotFitError) and self.on_incompatible == "start_fresh" and claim.start:
            self.log.warning("%s: the changed script starts without the former's state: %s", self.job, reason)
            return self._submit(self._claim("changed", _script_of(claim), start=""))
        former = self.table.generation(claim.former)
        if former is None or former.digest == claim.digest:
            raise error
        self.log.warning("%s: refused, the former script goes on: %s", self.job, reason)
        back = self._claim("restored", _script_of(former), former=former, start=former.newest_state)
        return Outcome(self._submit(back).generation, "restored", refusal=reason)

    def _resumed(self, current: Generation) -> Outcome:
        """Another generation of the same script, as Flink takes no id twice."""
        state = self.savepoint_path or newest_visible(current.newest_state)
        self.table.change(current, status=ENDED, savepoint=state)
        return self._submit(self._claim("resumed", _script_of(current), former=current, start=state))

    def _stopped(self, row: Generation) -> Generation:
        """Stop with a savepoint, or take the newest checkpoint of a job that is over, lost or cannot make one."""
        row = self.table.change(row, status=STOPPING)
        path = stop_with_savepoint(self.hook, row, log=self.log, limit_seconds=self.limit_seconds)
        row = self._again(row)
        return self.table.change(row, status=STOPPED, savepoint=path or newest_visible(row.newest_state))

    def _again(self, row: Generation) -> Generation:
        found = self.table.generation(row.number)
        assert found is not None
        return found

    def _cancel_strays(self, claim: Generation) -> None:
        """A submission that was on its way when its task was killed, and came after it had been given up."""
        alive = {each.job_id for each in self.hook.jobs() if each.state not in OVER}
        for row in self.table.history():
            if row.number < claim.number and row.job_id in alive:
                self.log.warning(
                    "%s: generation %d runs beside generation %d: cancelled", self.job, row.number, claim.number
                )
                self.hook.cancel(row.job_id)

    def _jar_id(self) -> str:
        return self.hook.uploaded_jar(self.jar)


def _script_of(row: Generation) -> FlinkScript:
    return FlinkScript(row.script, row.digest)
