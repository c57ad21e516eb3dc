"""A Flink SQL script as a job that runs, changes and comes back by declaration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred

from tallyclerk.exceptions import (
    FlinkJobBusyError,
    FlinkJobNotReadyError,
    ServiceUnavailableError,
    SpecError,
    StateDoesNotFitError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.operators.flink_generations import Outcome
    from tallyclerk.operators.flink_job_control import FlinkJobControl
    from tallyclerk.operators.flink_script import FlinkScript

DAY_END = "day_end"
JARS_VARIABLE = "TALLYCLERK_FLINK_JARS"
"""Folder of Flink's jars, where nothing else is said."""
_ACTIONS = ("apply", "stop", "rollback")
_ON_INCOMPATIBLE = ("refuse", "start_fresh")


class FlinkSqlJobOperator(BaseOperator):
    """Make a Flink SQL script what runs, and keep it running.

    ============ =====================================================================================================
    ``apply``    the script runs and is well. Nothing is done when it does already (comments do not count). A changed one is
                 planned and compared first, then the former is stopped with a savepoint and the new one begins from it
    ``rollback`` the script before the present one, from the savepoint with which it was stopped; ``script`` is not read.
                 Put the former text back into the file too, or the next ``apply`` brings the new one again
    ``stop``     ended with a savepoint, from which the next ``apply`` goes on
    ============ =====================================================================================================

    A changed script whose steps that keep state are others is refused before anything is touched; where only Flink finds out,
    the former script goes on from the savepoint, and then the task fails with the reason. The same text is refused at once later.

    Guarantee: at any time at most one generation of the job is in Flink, and each goes on exactly where the one before it
    stopped: messages are counted once in its state. Topics written as upserts then hold the right last value of each key; what
    is read committed from a topic written in transactions is there once, except after a rollback, which computes again what
    came since. What the job goes on from (the newest checkpoint at each poll, savepoints, script, ids) is in the table
    ``tallyclerk_flink_jobs``: a JobManager that dies forgets its jobs, and the next look resumes them. Two tasks that change
    one job are told apart there: one fails with a transient error.

    Killing the task, deferred or not, does nothing to the job: no savepoint, no cancel. ``on_kill`` lets the step that is under
    way end if Airflow's patience allows; one that does not is claimed in the table, and the retry, or the next run, finishes
    it under the same ids. Only ``action="stop"`` stops a job.

    :param script: path of the ``.sql`` file; ``@NAME@`` stands for a parameter, ``@JOB_NAME@`` for the job's name, and
        ``@KAFKA_SECURITY@`` for options of a table on Kafka: what the connection says of TLS and of the kind of login. The
        password is never among them: Flink's own JVMs have it, as ``KafkaClient`` in their JAAS file. Templated.
    :param parameters: value by placeholder. Shown by Flink and kept in the table: no secret. Templated.
    :param job_name: unique in the keyspace, ``<dag_id>.<task_id>`` when None. Ids follow from it: tasks of one name act on one job.
        Templated.
    :param action: one of the above. Templated.
    :param jar: path of ``flink-sql-gateway-*.jar`` on the worker; that of ``TALLYCLERK_FLINK_JARS`` when None. Uploaded once.
    :param savepoint_path: where the job goes on, in place of its own state: a savepoint or a checkpoint. Templated.
    :param on_incompatible: ``start_fresh`` lets a script that does not fit begin without state. Templated.
    :param watch_until: None: done once the job is well (every task runs, and a checkpoint was completed). Else the task stays
        deferred and supervises it: until the end of the run's UTC day (``"day_end"``), or for so many seconds.
    :param resume_budget: how often a job that is over, or lost, is resumed in one attempt.
    :param max_checkpoint_age_seconds: a job with an older one is not well.
    :param limit_seconds: for a savepoint; for how long the job may be unwell, and Flink away, in one piece.
    :param keyspace: of the table; that of the connection when None. Templated.
    :param kafka_conn_id: read only for ``@KAFKA_SECURITY@``.
    :return: ``job``, ``job_id``, ``generation``, ``did`` (``started``, ``changed``, ``rolled_back``, ``resumed``, ``unchanged``,
        ``stopped``), ``resumed`` (how often), ``checkpoint`` and ``savepoint`` (paths).
    :raises SpecError: an argument is wrong; :class:`FlinkSqlError`, :class:`StateDoesNotFitError`: so is the script.
    :raises FlinkJobFailedError, FlinkStateLostError: it ends again and again, or has nothing to go on from.
    :raises FlinkJobNotReadyError, FlinkJobBusyError, ServiceUnavailableError: a retry may help.
    """

    template_fields: Sequence[str] = (
        "script", "parameters", "job_name", "action", "savepoint_path", "on_incompatible", "keyspace",
    )  # fmt: skip

    def __init__(
        self,
        *,
        script: str = "",
        parameters: Mapping[str, Any] | None = None,
        job_name: str | None = None,
        action: str = "apply",
        jar: str | None = None,
        savepoint_path: str = "",
        on_incompatible: str = "refuse",
        watch_until: Literal["day_end"] | float | None = None,
        poll_interval_seconds: float = 10,
        resume_budget: int = 10,
        max_checkpoint_age_seconds: float = 120,
        limit_seconds: float = 600,
        keyspace: str | None = None,
        flink_conn_id: str = "flink_default",
        cassandra_conn_id: str = "cassandra_default",
        kafka_conn_id: str = "kafka_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.script, self.parameters, self.job_name, self.action = script, parameters or {}, job_name, action
        self.jar, self.savepoint_path, self.on_incompatible = jar, savepoint_path, on_incompatible
        self.watch_until, self.poll_interval_seconds = watch_until, poll_interval_seconds
        self.resume_budget, self.max_checkpoint_age_seconds = resume_budget, max_checkpoint_age_seconds
        self.limit_seconds, self.keyspace = limit_seconds, keyspace
        self.flink_conn_id, self.cassandra_conn_id = flink_conn_id, cassandra_conn_id
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Change what has to be changed; then the task is deferred until the job is well."""
        if self.action not in _ACTIONS:
            raise SpecError(f"The action {self.action!r} is none of {', '.join(_ACTIONS)}.")
        if self.on_incompatible not in _ON_INCOMPATIBLE:
            raise SpecError(f"on_incompatible={self.on_incompatible!r} is none of {', '.join(_ON_INCOMPATIBLE)}.")
        with self._control(context) as control:
            if self.action == "stop":
                stopped = control.stop()
                return self._told(stopped, 0) if stopped else {"job": self._job, "did": "stopped", "generation": 0}
            outcome = control.rollback() if self.action == "rollback" else control.apply(self._script())
        facts = {"did": outcome.did, "resumed": 0, "refusal": outcome.refusal, "ends": self._end(context)}
        raise self._watch(outcome, until="", **facts)

    def follow(
        self, context: Context, event: dict[str, Any], *,
        generation: int, did: str, resumed: int, refusal: str, until: str, ends: str,
    ) -> dict[str, Any]:  # fmt: skip
        """What the watch found: report, resume, or go on watching.

        :param until: the end of the watch that has fired, "" for the one that waited until the job is well.
        :param ends: the end of the watch to come, "" for none.
        """
        from tallyclerk.operators.flink_generations import Outcome

        status, found = event["status"], event["message"]
        if status == "away":
            raise ServiceUnavailableError(service="Flink", address=self.flink_conn_id, cause=found)
        if status == "unready":
            raise FlinkJobNotReadyError(job=self._job, found=found, limit_seconds=self.limit_seconds)
        with self._control(context) as control:
            row = control.table.generation(generation)
            assert row is not None
            if status == "healthy" and refusal:
                goes_on = f"The former one goes on from its savepoint, as generation {generation}."
                raise StateDoesNotFitError(job=self._job, reason=refusal, goes_on=goes_on)
            outcome = Outcome(row, did)
            if status == "over" or (status == "healthy" and not ends):
                self.log.info("%s", found)
                return self._told(outcome, resumed)
            if status == "misfit":
                outcome = control.refuse(generation, found)
                did, refusal, until = outcome.did, outcome.refusal, ""
            elif status == "gone":
                self.log.warning("%s", found)
                try:
                    outcome = control.follow(generation, resumed=resumed, budget=self.resume_budget)
                except FlinkJobBusyError as error:
                    self.log.info("%s", error)
                else:
                    if outcome.did == "stopped":
                        return self._told(outcome, resumed)
                    resumed += outcome.did == "resumed"
            else:
                until = ends
        raise self._watch(outcome, until=until, did=did, resumed=resumed, refusal=refusal, ends=ends)

    def on_kill(self) -> None:
        """Nothing is done to the job; see the class."""
        self.log.info("%s is left as it is: the task ends, not the job", self._job)

    @property
    def _job(self) -> str:
        return self.job_name or f"{self.dag_id}.{self.task_id}"

    def _watch(self, outcome: Outcome, *, until: str, **facts: Any) -> TaskDeferred:
        from tallyclerk.triggers.flink_job import FlinkJobTrigger

        row = outcome.generation
        trigger = FlinkJobTrigger(
            job=self._job, generation=row.number, job_id=row.job_id, keyspace=self._keyspace(), until=until,
            poll_interval_seconds=self.poll_interval_seconds if until else min(self.poll_interval_seconds, 2),
            max_checkpoint_age_seconds=self.max_checkpoint_age_seconds, limit_seconds=self.limit_seconds,
            flink_conn_id=self.flink_conn_id, cassandra_conn_id=self.cassandra_conn_id,
        )  # fmt: skip
        passed = {"generation": row.number, "until": until, **facts}
        return TaskDeferred(trigger=trigger, method_name="follow", kwargs=passed)

    def _end(self, context: Context) -> str:
        if self.watch_until is None:
            return ""
        if self.watch_until == DAY_END:
            from tallyclerk.transfers.base import living_window_of

            return living_window_of(context).end.isoformat()
        return (datetime.now(UTC) + timedelta(seconds=float(self.watch_until))).isoformat()

    def _told(self, outcome: Outcome, resumed: int) -> dict[str, Any]:
        row = outcome.generation
        return {
            "job": self._job,
            "job_id": row.job_id,
            "generation": row.number,
            "did": outcome.did,
            "resumed": resumed,
            "checkpoint": row.checkpoint,
            "savepoint": row.savepoint,
        }

    @contextmanager
    def _control(self, context: Context) -> Iterator[FlinkJobControl]:
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.hooks.flink import FlinkHook
        from tallyclerk.operators.flink_job_control import FlinkJobControl
        from tallyclerk.sinks.cassandra_flink_jobs import FlinkJobsTable

        with CassandraClusterHook(self.cassandra_conn_id) as cassandra:
            table = FlinkJobsTable(
                cassandra.session, keyspace=self._keyspace(), job=self._job, backoff=cassandra.backoff, address=cassandra.address
            )  # fmt: skip
            table.create()
            yield FlinkJobControl(
                hook=FlinkHook(self.flink_conn_id), table=table, job=self._job, jar=self._jar(), log=self.log,
                requested_by=context["dag_run"].run_id, on_incompatible=self.on_incompatible,
                savepoint_path=self.savepoint_path, limit_seconds=self.limit_seconds,
            )  # fmt: skip

    def _script(self) -> FlinkScript:
        from tallyclerk.operators.flink_script import read_script

        return read_script(self.script, self.parameters, job=self._job, security=self._kafka_security)

    def _kafka_security(self) -> Mapping[str, str]:
        from tallyclerk.hooks.kafka_cluster import KafkaClusterHook

        return KafkaClusterHook(self.kafka_conn_id).java_security

    def _keyspace(self) -> str:
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook

        keyspace = self.keyspace or CassandraClusterHook(self.cassandra_conn_id).keyspace
        if not keyspace:
            raise SpecError(
                f"The connection {self.cassandra_conn_id!r} has no schema (keyspace); set it, or pass keyspace."
            )
        return keyspace

    def _jar(self) -> Path:
        if self.jar:
            return Path(self.jar)
        folder = os.environ.get(JARS_VARIABLE, "")
        found = sorted(Path(folder).glob("flink-sql-gateway-*.jar")) if folder else []
        if not found:
            raise SpecError(
                f"No flink-sql-gateway-*.jar is in {JARS_VARIABLE}={folder!r}: pass its path as `jar` (Maven: "
                "org.apache.flink:flink-sql-gateway, of the cluster's version)."
            )
        return found[-1]
