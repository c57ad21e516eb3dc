"""A connector as declared state, on the real Connect with the real Debezium."""

from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from stack import processes
from stack.settings import Settings
from tallyclerk.exceptions import ConnectorFailedError, ConnectorNotReadyError, ConnectorRefusedError, SpecError
from tallyclerk.hooks.kafka_connect import KafkaConnectHook
from tallyclerk.operators.connector import ConnectorOperator
from tests.integration.connect.captured_table import LIMIT_SECONDS, CapturedTable, doubled, operations
from tests.running import RunTask

pytestmark = pytest.mark.integration


def declare(run_task: RunTask, table: CapturedTable, config: str, **other: Any) -> dict[str, Any]:
    stated = {"settle_seconds": 2, "limit_seconds": LIMIT_SECONDS, **other}
    operator = ConnectorOperator(task_id="connector", connector=table.name, config=config, **stated)
    return run_task(operator).value


def test_changes_arrive_once_and_a_second_application_finds_nothing_to_do(
    run_task: RunTask,
    table: CapturedTable,
    hook: KafkaConnectHook,
    settings: Settings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = table.config(tmp_path)
    first = declare(run_task, table, config)
    assert "database.password" in first["changed"]
    assert first["offsets"]
    second = declare(run_task, table, config, wait_for_progress=False)
    assert (second["changed"], second["restarts"]) == ([], 0)

    database, name = table.database, table.name
    database.execute(f"INSERT INTO {name}.customers VALUES (6, 'new', now())")
    database.execute(f"UPDATE {name}.customers SET income = 'changed' WHERE household_id = 1")
    database.execute(f"DELETE FROM {name}.customers WHERE household_id = 2")
    events = table.events(9)
    assert operations(events) == {1: ["r", "u"], 2: ["r", "d", "-"], 3: ["r"], 4: ["r"], 5: ["r"], 6: ["c"]}
    assert not doubled(events)
    values = {(key, value["__op"]): value for key, value in events if value is not None}
    assert values[1, "u"]["income"] == "changed"
    assert values[2, "d"]["__deleted"] == "true"
    assert values[6, "c"]["__ts_ms"] > values[1, "r"]["__ts_ms"] - 60_000

    changed = declare(run_task, table, table.config(tmp_path, max__batch__size="512"))
    assert changed["changed"] == ["max.batch.size"]
    log = capsys.readouterr().out
    assert "max.batch.size: added, '512'" in log
    # what ran before goes on where it was
    database.execute(f"UPDATE {name}.customers SET income = 'again' WHERE household_id = 1")
    assert operations(table.events(10))[1] == ["r", "u", "u"]

    shown = hook._client.get(f"/connectors/{name}").text + hook._client.get(f"/connectors/{name}/tasks").text
    assert "database.password" in shown
    assert settings.secret("RETAIL_DB_PASSWORD") not in shown + log


def test_each_state_is_reached_and_a_reset_begins_with_a_new_snapshot(
    run_task: RunTask, table: CapturedTable, hook: KafkaConnectHook, tmp_path: Path
) -> None:
    config = table.config(tmp_path)
    declare(run_task, table, config)
    for state in ("paused", "stopped"):
        answer = declare(run_task, table, config, state=state)
        assert answer["offsets"]
        status = hook.status(table.name)
        assert status is not None
        assert status.is_wholly(state.upper())
    assert table.slots() == 1
    assert declare(run_task, table, config, state="reset")["offsets"] == []
    assert table.slots() == 0
    declare(run_task, table, config)
    assert operations(table.events(10)) == {number: ["r", "r"] for number in range(1, 6)}

    assert declare(run_task, table, config, state="absent", forget_position=True)["state"] == "absent"
    assert table.slots() == 0
    assert hook.config(table.name) is None
    assert declare(run_task, table, config, state="absent", forget_position=True)["state"] == "absent"


def test_a_slot_is_dropped_with_its_offsets_when_the_connector_was_deleted_by_hand(
    run_task: RunTask, table: CapturedTable, hook: KafkaConnectHook, tmp_path: Path
) -> None:
    config = table.config(tmp_path)
    declare(run_task, table, config)
    hook.delete(table.name)
    declare(run_task, table, config, state="absent")
    assert table.slots() == 1
    declare(run_task, table, config, state="absent", forget_position=True)
    assert table.slots() == 0
    assert hook.config(table.name) is None
    # nothing is left that a connector of that name would go on from
    declare(run_task, table, config, state="stopped")
    assert hook.offsets(table.name) == []


@pytest.mark.parametrize(
    ("other", "finding"),
    [
        ({"snapshot__mode": "sometimes"}, r"snapshot\.mode: .*must be one of"),
        ({"database__dbname": "nowhere"}, r"database\.hostname: .*nowhere"),
        ({"topic__prefix": None}, r"topic\.prefix: .*required"),
        ({"connector__class": "io.debezium.connector.oracle.OracleConnector"}, r"no plugin .*PostgresConnector"),
        ({"database__password": "hush"}, r"database\.password: a secret in clear"),
        ({"value__converter__apicurio__auth__password": "hush"}, r"auth\.password: a secret in clear"),
    ],
    ids=["value", "database", "missing", "plugin", "password", "converter password"],
)
def test_a_wrong_configuration_is_refused_by_its_setting_and_nothing_is_made(
    run_task: RunTask,
    table: CapturedTable,
    hook: KafkaConnectHook,
    tmp_path: Path,
    other: dict[str, str | None],
    finding: str,
) -> None:
    with pytest.raises(ConnectorRefusedError, match=finding) as caught:
        declare(run_task, table, table.config(tmp_path, **other))
    assert "hush" not in str(caught.value)
    assert hook.config(table.name) is None


def test_a_setting_of_the_position_is_not_changed_in_place(
    run_task: RunTask, table: CapturedTable, hook: KafkaConnectHook, tmp_path: Path
) -> None:
    declare(run_task, table, table.config(tmp_path), state="stopped")
    with pytest.raises(ConnectorRefusedError, match=r"slot\.name: .*forget_position"):
        declare(run_task, table, table.config(tmp_path, slot__name=f"{table.name}_2"))
    kept = hook.config(table.name)
    assert kept is not None
    assert kept["slot.name"] == table.name


def test_a_failed_task_is_restarted_within_the_budget_and_not_beyond(
    run_task: RunTask, table: CapturedTable, hook: KafkaConnectHook, tmp_path: Path
) -> None:
    table.database.execute(f"DROP PUBLICATION {table.name}")
    config = table.config(tmp_path)
    with pytest.raises(ConnectorFailedError, match=r"(?s)after 1 restart\..*task 0 FAILED: .*[Pp]ublication"):
        declare(run_task, table, config, restart_budget=1)

    def mend() -> None:
        processes.wait_until(lambda: bool((status := hook.status(table.name)) and status.failures), LIMIT_SECONDS)
        table.publish()

    mender = Thread(target=mend)
    mender.start()
    answer = declare(run_task, table, config, restart_budget=5)
    mender.join()
    assert 1 <= answer["restarts"] <= 5
    assert operations(table.events(5)) == {number: ["r"] for number in range(1, 6)}


def test_offsets_are_reset_only_when_stopped(
    run_task: RunTask, table: CapturedTable, hook: KafkaConnectHook, tmp_path: Path
) -> None:
    config = table.config(tmp_path)
    declare(run_task, table, config)
    with pytest.raises(ConnectorRefusedError, match="STOPPED"):
        hook.reset_offsets(table.name)
    declare(run_task, table, config, state="stopped")
    (offset,) = hook.offsets(table.name)
    hook.alter_offsets(table.name, [offset])
    assert hook.offsets(table.name) == [offset]


def test_running_without_progress_is_not_enough(run_task: RunTask, table: CapturedTable, tmp_path: Path) -> None:
    # no heartbeat and no change: it runs, and nothing tells that it reads
    config = table.config(tmp_path, heartbeat__interval__ms="0", heartbeat__action__query=None)
    declare(run_task, table, config, wait_for_progress=False)
    table.events(5)
    with pytest.raises(ConnectorNotReadyError, match="its offsets stay at"):
        declare(run_task, table, config, limit_seconds=8)


def test_an_unknown_state_is_refused(run_task: RunTask, table: CapturedTable, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="'sleeping' is none of running"):
        declare(run_task, table, table.config(tmp_path), state="sleeping")
