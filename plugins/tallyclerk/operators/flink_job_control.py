"""What a Flink job needs: decided from the table of its generations and from what Flink says."""

from __future__ import annotations

from dataclasses import dataclass

from tallyclerk.exceptions import FlinkJobBusyError, FlinkJobFailedError, SpecError, StateDoesNotFitError
from tallyclerk.hooks.flink_status import OVER, root_cause
from tallyclerk.operators.flink_generations import FlinkGenerations, Outcome, job_id_of
from tallyclerk.operators.flink_script import FlinkScript, misfit
from tallyclerk.operators.flink_state import newest_visible, wait_until_over
from tallyclerk.sinks.cassandra_flink_jobs import ABANDONED, CLAIMED, REFUSED, STOPPED, STOPPING, SUBMITTED, Generation

UNCHANGED = "unchanged"
_FINISHED_BY_ANYONE = ("resumed", "restored")


@dataclass(slots=True, kw_only=True)
class FlinkJobControl(FlinkGenerations):
    """Decisions about one job. After a crash anywhere, calling the same method again goes on where it was."""

    def apply(self, script: FlinkScript) -> Outcome:
        """Make ``script`` what runs.

        :raises FlinkSqlError, StateDoesNotFitError: it cannot; the former runs on (as a new generation if it was stopped).
        :raises FlinkJobBusyError: another task is changing the job.
        """
        current = self._current(self._settled(script.digest))
        if current is None:
            self._refuse_strangers(script)
            self.hook.plan(self._jar_id(), script.text, job=self.job)
            return self._carry_out(self._claim("started", script, start=self.savepoint_path))
        if current.digest != script.digest:
            start = self._start_of_changed(current, script)
            return self._carry_out(self._claim("changed", script, former=current, start=start))
        if current.is_live:
            return self._kept(current)
        return self._carry_out(self._claim("started", script, former=current, start=self.savepoint_path or None))

    def rollback(self) -> Outcome:
        """Back to the script before the present one, from the savepoint with which it was stopped.

        What came since is read and computed again, so that the last value of every key is as if it had never stopped.

        :raises SpecError: there is no such script.
        """
        rows = self._settled("")
        current = self._current(rows)
        if current is not None and current.kind == "rolled_back" and current.requested_by == self.requested_by:
            return self._kept(current)
        former = next(
            (
                each
                for each in rows
                if current and each.number < current.number and each.digest != current.digest
                and each.status == STOPPED and each.savepoint
            ),
            None,
        )  # fmt: skip
        if current is None or former is None:
            raise SpecError(f"The Flink job {self.job!r} has no former script with a savepoint to go back to.")
        script = FlinkScript(former.script, former.digest)
        return self._carry_out(self._claim("rolled_back", script, former=current, start=former.savepoint))

    def stop(self) -> Outcome | None:
        """End the job with a savepoint, from which ``apply`` goes on; None when there is none."""
        current = self._current(self._settled(""))
        if current is None:
            return None
        return Outcome(self._stopped(current) if current.is_live else current, "stopped")

    def follow(self, number: int, *, resumed: int, budget: int) -> Outcome:
        """Do what is needed now that generation ``number`` is over, or the JobManager does not know it any more.

        :param resumed: how often this was done already. :param budget: how often it may be done.
        :raises FlinkJobFailedError: it was resumed as often as allowed.
        :raises FlinkStateLostError: there is nothing from which it could go on.
        :raises FlinkJobBusyError: another task is changing the job right now.
        """
        rows = self._settled("", finishes=True)
        current = self._current(rows)
        if current is None or not current.is_live:
            # stopped on purpose
            return Outcome(current or rows[0], "stopped")
        if current.number != number:
            return Outcome(current, UNCHANGED)
        if current.status == STOPPING and current.age_seconds() < self.limit_seconds:
            raise FlinkJobBusyError(job=self.job, generation=current.number, what="stopped")
        state = self.hook.state(current.job_id)
        if resumed >= budget and state in (None, *OVER):
            cause = root_cause(self.hook.last_failure(current.job_id))
            raise FlinkJobFailedError(
                job=self.job, resumed=resumed, state=state or "lost with its JobManager", cause=cause
            )
        return self._kept(current)

    def refuse(self, number: int, reason: str) -> Outcome:
        """Generation ``number`` was submitted, and its tasks cannot read the state it was given.

        :raises StateDoesNotFitError: with no former script to go on.
        """
        row = next(each for each in self._history() if each.number == number)
        self.hook.cancel(row.job_id)
        wait_until_over(self.hook, row.job_id, self.limit_seconds)
        return self._fall_back(row, StateDoesNotFitError(job=self.job, reason=reason, goes_on=""))

    def _settled(self, digest: str, *, finishes: bool = False) -> list[Generation]:
        """The generations, the newest of them claimed by nobody who is still at it.

        :param digest: of a script that this call wants too: then it goes on with the claim.
        :param finishes: carry an old claim out instead of abandoning it.
        """
        rows = self._history()
        if not rows or rows[0].status != CLAIMED:
            return rows
        newest = rows[0]
        is_ours = newest.requested_by == self.requested_by
        if newest.digest == digest or newest.kind in _FINISHED_BY_ANYONE or (is_ours and newest.kind == "rolled_back"):
            if self.savepoint_path and newest.digest == digest:
                newest = self.table.change(newest, start=self.savepoint_path)
            self._carry_out(newest)
        elif newest.age_seconds() < self.limit_seconds and not is_ours:
            raise FlinkJobBusyError(job=self.job, generation=newest.number, what=f"being {newest.kind}")
        elif finishes:
            self._carry_out(newest)
        elif self.hook.state(newest.job_id) in (None, *OVER):
            self.log.warning("%s: generation %d was claimed and never submitted: abandoned", self.job, newest.number)
            self.table.change(newest, status=ABANDONED)
        else:
            # its task died between the submission and the note of it
            self.table.change(newest, status=SUBMITTED)
        return self._history()

    def _current(self, rows: list[Generation]) -> Generation | None:
        """The newest generation that runs, or was stopped."""
        return next((each for each in rows if each.is_live or each.status == STOPPED), None)

    def _start_of_changed(self, current: Generation, script: FlinkScript) -> str | None:
        """Where ``script`` begins: None for the savepoint with which ``current`` will be stopped. Nothing is touched yet.

        :raises FlinkSqlError: it is no good SQL. :raises StateDoesNotFitError: it cannot begin from that, and must.
        """
        jar = self._jar_id()
        plan = self.hook.plan(jar, script.text, job=self.job)
        if self.savepoint_path:
            return self.savepoint_path
        refused = (each for each in self.table.history() if each.status == REFUSED and each.digest == script.digest)
        known = next((each.reason for each in refused if self._digest_of(each.former) == current.digest), "")
        reason = known or misfit(self.hook.plan(jar, current.script, job=self.job), plan)
        if not reason:
            return None
        if self.on_incompatible != "start_fresh":
            raise StateDoesNotFitError(job=self.job, reason=reason, goes_on="The former one runs on, untouched.")
        self.log.warning("%s: the changed script starts without the former's state: %s", self.job, reason)
        return ""

    def _digest_of(self, number: int) -> str:
        found = self.table.generation(number)
        return found.digest if found else ""

    def _kept(self, current: Generation) -> Outcome:
        """It is what should run: nothing to do when it does, else it goes on from its newest state."""
        state = self.hook.state(current.job_id)
        if state is not None and state not in OVER:
            if current.status == STOPPING:
                current = self.table.change(current, status=SUBMITTED)
            return Outcome(current, UNCHANGED)
        if state is not None:
            cause = root_cause(self.hook.last_failure(current.job_id)) or "no reason is told"
            self.log.warning("%s: generation %d is %s: %s", self.job, current.number, state, cause)
            if (status := self.hook.status(current.job_id)) is not None and status.newest is not None:
                self.table.note_checkpoint(current.number, status.newest.number, status.newest.path)
            return self._resumed(self._again(current))
        start = self.savepoint_path or newest_visible(current.newest_state)
        self.log.warning("%s: generation %d was lost with its JobManager", self.job, current.number)
        # a JobManager that is new takes the same id again
        outcome = self._submit(self.table.change(current, start=start))
        return Outcome(outcome.generation, "resumed")

    def _refuse_strangers(self, script: FlinkScript) -> None:
        """A job of this name that the table does not know would write to the same topics.

        One of the very script is what another task has just submitted, or is left from a table that was dropped: it is ours.
        """
        strangers = [each for each in self.hook.jobs() if each.name == self.job and each.state not in OVER]
        if strangers and strangers[0].job_id != job_id_of(self.job, 1, script.digest):
            raise SpecError(
                f"Flink runs a job called {self.job!r} ({strangers[0].job_id}) that was not submitted from here. Cancel it, or give "
                "this one another job_name."
            )
