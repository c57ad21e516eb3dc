"""A Kafka Connect connector as declared state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.exceptions import ConnectorRefusedError, SpecError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.hooks.kafka_connect import KafkaConnectHook, Validation

STATES = ("running", "paused", "stopped", "reset", "absent")
_OF_THE_POSITION = ("slot.name", "topic.prefix")
"""Settings under which a position is kept: changed in place, the former one would be left behind, its slot included."""


class ConnectorOperator(BaseOperator):
    """Make a connector what is declared, and wait until it is.

    The configuration is validated by the plugin, compared with the present one, the differences are logged without
    secrets, and it is put only if there are any. Running it again changes nothing. Nothing is changed when it is refused.

    ================ =============================================================================================
    ``running``      every task runs, for a while and with moving offsets; failed parts are restarted within the budget
    ``paused``       tasks are kept and idle
    ``stopped``      no tasks; offsets are kept, and may be altered
    ``reset``        stopped, its position forgotten: offsets and replication slot dropped together. ``running`` then
                     begins with a new snapshot
    ``absent``       deleted; with ``forget_position`` its offsets and its slot too. Without, the slot pins the
                     database's log until the connector is back
    ================ =============================================================================================

    Offsets and slot are never dropped one without the other: what was written in between would be missed, or sent again.
    The connector itself goes last, so an attempt that dies half-way is finished by the next.

    :param connector: its name. Templated.
    :param config: the path of a JSON file, whose text is templated too (``{{ conn.shop_db.host }}``), or a mapping. Secrets
        must be references to a configuration provider of the worker (``${file:...}``): others are refused. Templated.
    :param state: one of the above. Templated.
    :param forget_position: see ``absent``.
    :param wait_for_progress: with ``running``, for a source: wait until its offsets move. It needs traffic, or heartbeats.
    :param restart_budget: how often failed parts may be restarted in one attempt.
    :param settle_seconds, limit_seconds: how long the state must hold, and how long the whole wait may take.
    :param database_conn_id: the database of ``slot.name``, for ``reset`` and ``forget_position``. Templated.
    :return: ``connector``, ``state``, ``changed`` (names of settings), ``restarts``, ``offsets``.
    :raises ConnectorRefusedError: the configuration is not valid, each finding with its setting.
    :raises ConnectorFailedError: it fails again after every allowed restart.
    :raises ConnectorNotReadyError: it did not reach the state in time.
    """

    template_fields: Sequence[str] = ("connector", "config", "state", "database_conn_id")

    def __init__(
        self,
        *,
        connector: str,
        config: str | Mapping[str, Any],
        state: str = "running",
        forget_position: bool = False,
        wait_for_progress: bool = True,
        restart_budget: int = 3,
        settle_seconds: float = 5,
        limit_seconds: float = 600,
        connect_conn_id: str = "connect_default",
        database_conn_id: str = "shop_db",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.connector, self.config, self.state = connector, config, state
        self.forget_position, self.wait_for_progress = forget_position, wait_for_progress
        self.restart_budget, self.settle_seconds, self.limit_seconds = restart_budget, settle_seconds, limit_seconds
        self.connect_conn_id, self.database_conn_id = connect_conn_id, database_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from tallyclerk.hooks.kafka_connect import KafkaConnectHook

        if self.state not in STATES:
            raise SpecError(f"The state {self.state!r} is none of {', '.join(STATES)}.")
        hook = KafkaConnectHook(self.connect_conn_id)
        config = self._declared(context)
        if self.state == "absent":
            return self._drop(hook, config)
        validation = self._validated(hook, config)
        changed = self._apply(hook, config, validation)
        restarts = self._reach(hook, config)
        offsets = hook.offsets(self.connector)
        self.log.info("%s is %s, %d settings changed, offsets %s", self.connector, self.state, len(changed), offsets)
        return {
            "connector": self.connector,
            "state": self.state,
            "changed": changed,
            "restarts": restarts,
            "offsets": offsets,
        }

    def _declared(self, context: Context) -> dict[str, str]:
        from tallyclerk.operators.connector_config import normal, read_config

        if isinstance(self.config, str):
            text = Path(self.config).read_text(encoding="utf-8")
            return read_config(self.render_template(text, context), self.config)
        return normal(self.config, f"the config of {self.task_id}")

    def _validated(self, hook: KafkaConnectHook, config: Mapping[str, str]) -> Validation:
        from tallyclerk.operators.connector_config import refuse_clear_secrets

        # before it is sent anywhere
        refuse_clear_secrets(self.connector, config, frozenset())
        validation = hook.validate(self.connector, config)
        if validation.findings:
            raise ConnectorRefusedError(connector=self.connector, findings=validation.findings)
        refuse_clear_secrets(self.connector, config, validation.passwords)
        return validation

    def _apply(self, hook: KafkaConnectHook, config: Mapping[str, str], validation: Validation) -> list[str]:
        """Create or update; returns the names of the settings that changed."""
        from tallyclerk.hooks.kafka_connect import PAUSED, RUNNING, STOPPED
        from tallyclerk.operators.connector_config import changes

        present = hook.config(self.connector)
        if present is None:
            self.log.info("%s is new, with %d settings", self.connector, len(config))
            first = {"running": RUNNING, "paused": PAUSED}.get(self.state, STOPPED)
            hook.create(self.connector, config, state=first)
            return sorted(config)
        found = changes(present, config, validation.passwords)
        if moved := [change for change in found if change.name in _OF_THE_POSITION]:
            remedy = "its position would be left behind; make it absent with forget_position first"
            raise ConnectorRefusedError(connector=self.connector, findings=[f"{change}; {remedy}" for change in moved])
        for change in found:
            self.log.info("%s: %s", self.connector, change)
        if found:
            hook.update(self.connector, config)
        return [change.name for change in found]

    def _reach(self, hook: KafkaConnectHook, config: Mapping[str, str]) -> int:
        """Ask for the state and wait for it; returns how many restarts it took."""
        from tallyclerk.hooks.kafka_connect import PAUSED, RUNNING, STOPPED

        watch = self._watch(hook)
        if self.state == "running":
            hook.request(self.connector, "resume")
            watch.until(RUNNING, moving=self.wait_for_progress and hook.is_source(self.connector))
        elif self.state == "paused":
            hook.request(self.connector, "pause")
            watch.until(PAUSED)
        else:
            hook.request(self.connector, "stop")
            watch.until(STOPPED)
            if self.state == "reset":
                self._forget(hook, config)
        return watch.restarts

    def _drop(self, hook: KafkaConnectHook, config: Mapping[str, str]) -> dict[str, Any]:
        from tallyclerk.hooks.kafka_connect import STOPPED

        present = hook.config(self.connector)
        if self.forget_position:
            if present is None and self._slot_exists(config):
                # offsets can be dropped only through their connector
                self.log.info(
                    "%s was deleted before and left its slot: made again, stopped, to drop both", self.connector
                )
                self._validated(hook, config)
                hook.create(self.connector, config, state=STOPPED)
                present = dict(config)
            if present is not None:
                hook.request(self.connector, "stop")
                self._watch(hook).until(STOPPED)
                self._forget(hook, present)
        if present is not None:
            hook.delete(self.connector)
        self.log.info("%s is %s", self.connector, "deleted" if present is not None else "absent already")
        return {"connector": self.connector, "state": "absent", "changed": [], "restarts": 0, "offsets": []}

    def _forget(self, hook: KafkaConnectHook, config: Mapping[str, str]) -> None:
        from tallyclerk.operators.connector_slot import drop_slot

        if slot := config.get("slot.name"):
            dropped = drop_slot(self._conninfo(), slot)
            self.log.info("slot %s %s", slot, "dropped" if dropped else "was not there")
        hook.reset_offsets(self.connector)

    def _slot_exists(self, config: Mapping[str, str]) -> bool:
        from tallyclerk.operators.connector_slot import slot_exists

        slot = config.get("slot.name")
        return slot is not None and slot_exists(self._conninfo(), slot)

    def _conninfo(self) -> str:
        from tallyclerk.hooks.relational import RelationalHook

        return RelationalHook(self.database_conn_id).conninfo

    def _watch(self, hook: KafkaConnectHook) -> Any:
        from tallyclerk.operators.connector_watch import ConnectorWatch

        return ConnectorWatch(
            hook=hook,
            connector=self.connector,
            log=self.log,
            restart_budget=self.restart_budget,
            settle_seconds=self.settle_seconds,
            limit_seconds=self.limit_seconds,
        )
