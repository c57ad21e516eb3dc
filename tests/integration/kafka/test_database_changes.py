"""The operator between a real PostgreSQL and a real broker: modes, windows, receipts, reruns."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fastavro
import httpx
import pytest
from airflow.sdk import Asset
from psycopg.conninfo import conninfo_to_dict

from tallyclerk.exceptions import RecordError, SpecError
from tests.integration.kafka.change_case import ChangeCase, change_case
from tests.integration.kafka.topic_case import registry_url
from tests.running import RunTask

pytestmark = pytest.mark.integration
CHANGES = Asset(name="test_changes", uri="tallyclerk://kafka/test/changes")


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChangeCase]:
    with change_case(tmp_path) as made:
        for name, value in made.environment().items():
            monkeypatch.setenv(name, value)
        yield made


def minute(number: int) -> dict[str, str]:
    """The conf of a run of its own."""
    start = datetime(2026, 3, 1, 10, number, tzinfo=UTC)
    return {"window_start": start.isoformat(), "window_end": (start + timedelta(minutes=1)).isoformat()}


def test_rows_and_then_changes_are_sent_once_when_runs_follow_each_other(case: ChangeCase, run_task: RunTask) -> None:
    case.db.execute(f"INSERT INTO {case.table} SELECT i, 'first' FROM generate_series(1, 40) i")
    first = run_task(case.operator(outlets=[CHANGES]), conf=minute(0))
    assert (first.state, first.value["ledger"]["written"], first.value["details"]["complete"]) == ("success", 40, True)
    assert first.events == {CHANGES.uri: {"receipt": first.value}}
    case.db.execute(f"UPDATE {case.table} SET label = 'second' WHERE id <= 3")
    case.db.execute(f"DELETE FROM {case.table} WHERE id = 4")
    case.db.execute(f"INSERT INTO {case.table} VALUES (41, 'new')")
    again = run_task(case.operator(), conf=minute(0))
    assert (again.value["repeated"], again.value["ledger"]) == (True, first.value["ledger"])
    second = run_task(case.operator(), conf=minute(1))
    assert second.value["ledger"]["written"] == 5
    assert second.value["details"]["acked"] == 6  # and a tombstone
    assert second.value["sources"][0]["transactions"] == 3
    third = run_task(case.operator(), conf=minute(2))
    assert third.value["ledger"]["read"] == 0
    assert case.state() == case.rows()
    assert case.tombstones() == [4]
    assert [event["__op"] for event in case.events()].count("r") == 40
    assert str(conninfo_to_dict(case.uri)["password"]) not in json.dumps([first.value, second.value])


def test_a_run_that_nobody_gave_a_window_is_a_load_of_its_own(case: ChangeCase, run_task: RunTask) -> None:
    receipt = run_task(case.operator()).value
    assert receipt["window"] == "2026-03-10T23:59:59.999999+00:00/2026-03-11T00:00:00+00:00"


def test_only_changes_are_sent_when_the_mode_is_cdc_and_begun_anew_when_asked(
    case: ChangeCase, run_task: RunTask
) -> None:
    case.db.execute(f"INSERT INTO {case.table} VALUES (1, 'before')")
    run_task(case.operator(mode="cdc"), conf=minute(0))
    case.db.execute(f"INSERT INTO {case.table} VALUES (2, 'after')")
    run_task(case.operator(mode="cdc"), conf=minute(1))
    assert [(event["__op"], event["id"]) for event in case.events()] == [("c", 2)]
    run_task(case.operator(mode="both"), conf={**minute(2), "begin_anew": True})
    assert sorted((event["__op"], event["id"]) for event in case.events()) == [("c", 2), ("r", 1), ("r", 2)]


def test_final_versions_are_sent_when_the_method_is_a_query(case: ChangeCase, run_task: RunTask) -> None:
    case.db.execute(f"INSERT INTO {case.table} SELECT i, 'first' FROM generate_series(1, 5) i")
    query = {"method": "query"}
    run_task(case.operator(**query), conf=minute(0))
    case.db.execute(f"UPDATE {case.table} SET label = 'x' WHERE id < 3; DELETE FROM {case.table} WHERE id = 5")
    receipt = run_task(case.operator(**query), conf=minute(1)).value
    assert receipt["ledger"]["written"] == 2
    assert "no deletions" in receipt["sources"][0]["blind"]
    assert case.state() == {**case.rows(), 5: "first"}
    with pytest.raises(SpecError, match="method 'query'"):
        run_task(case.operator(), conf=minute(2))


@pytest.mark.parametrize("batch", ["full", "incremental"])
def test_a_batch_leaves_the_position_of_the_changes_as_it_is(batch: str, case: ChangeCase, run_task: RunTask) -> None:
    case.db.execute(
        f"INSERT INTO {case.table} VALUES (1, 'in', '2026-03-01 10:05:59+00'), (2, 'out', '2026-03-01 10:06:00+00')"
    )
    run_task(case.operator(mode="cdc"), conf=minute(0))
    case.db.execute(f"UPDATE {case.table} SET label = 'later'")
    options = {"mode": "batch", "batch": batch, "incremental_column": "changed_at"}
    receipt = run_task(case.operator(**options), conf=minute(5)).value
    assert receipt["ledger"]["written"] == (2 if batch == "full" else 1)
    assert run_task(case.operator(**options), conf=minute(5)).value["repeated"]
    run_task(case.operator(mode="cdc"), conf=minute(1))
    events = case.events()
    assert sorted(event["__op"] for event in events) == ["r"] * receipt["ledger"]["written"] + ["u", "u"]


def test_rejected_changes_go_to_their_own_topic(case: ChangeCase, run_task: RunTask) -> None:
    run_task(case.operator(), conf=minute(0))
    case.db.execute(f"INSERT INTO {case.table} VALUES (1, 'never', 'infinity'), (2, 'good', now())")
    with pytest.raises(RecordError, match="changed_at: 1"):
        run_task(case.operator(), conf=minute(1))
    assert case.events() == []
    receipt = run_task(case.operator(special_values="reject"), conf=minute(1)).value
    assert (receipt["ledger"]["written"], receipt["ledger"]["rejected"]) == (1, 1)
    (message,) = case.topic.messages(case.topic.rejected)
    assert json.loads(json.loads(message.value)["raw_text"])["label"] == "never"


def test_events_are_framed_avro_under_a_registered_schema(case: ChangeCase, run_task: RunTask) -> None:
    case.db.execute(f"INSERT INTO {case.table} VALUES (1, 'ü', '2026-03-01 10:00:00.000001+00')")
    with pytest.raises(SpecError):
        run_task(case.operator(value_format="avro"), conf=minute(0))
    run_task(case.operator(value_format="avro", register="if_compatible"), conf=minute(0))
    (message,) = case.topic.messages()
    assert message.value is not None
    number = int.from_bytes(message.value[1:5])
    schema = json.loads(httpx.get(f"{registry_url()}/schemas/ids/{number}").json()["schema"])
    event = fastavro.schemaless_reader(io.BytesIO(message.value[5:]), schema)
    assert (event["id"], event["label"], event["__op"], event["__deleted"]) == (1, "ü", "r", False)
    assert event["changed_at"] == datetime(2026, 3, 1, 10, 0, 0, 1, tzinfo=UTC)
    assert message.key == b"1"


def test_the_task_waits_between_polls_and_ends_with_its_window(case: ChangeCase, run_task: RunTask) -> None:
    options = {"continuous": True, "poll_interval_seconds": 1.0}
    soon = {"window_start": "2026-03-01T10:00:00+00:00", "window_end": "2099-01-01T00:00:00+00:00"}
    assert run_task(case.operator(**options), conf=soon).state == "deferred"
    case.db.execute(f"INSERT INTO {case.table} VALUES (1, 'polled')")
    assert run_task(case.operator(**options), conf=soon).state == "deferred"
    assert case.state() == {1: "polled"}
    over = run_task(case.operator(**options), conf=minute(0))
    assert (over.state, over.value["details"]["complete"]) == ("success", True)
    with pytest.raises(SpecError, match="continuous=True is for changes"):
        run_task(case.operator(mode="batch", continuous=True), conf=minute(0))
