"""A Flink SQL script as declared state, on the real Flink, Kafka and Cassandra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stack.processes import wait_until
from stack.settings import load_settings
from tallyclerk.exceptions import (
    FlinkJobBusyError,
    FlinkJobFailedError,
    FlinkJobNotReadyError,
    FlinkSqlError,
    FlinkStateLostError,
    SpecError,
    StateDoesNotFitError,
)
from tallyclerk.operators.flink_sql_job import FlinkSqlJobOperator
from tallyclerk.sensors.flink_job import FlinkJobSensor
from tests.integration.flink.flink_job_case import (
    FILTERED,
    LIMIT_SECONDS,
    SCRIPT,
    FlinkJobCase,
    Till,
    run_to_end,
    set_connections,
)
from tests.running import RunTask

pytestmark = [pytest.mark.integration, pytest.mark.slow]
TWICE = SCRIPT.replace("SUM(sales_value) AS", "SUM(sales_value) * 2 AS")
BY_SALE = SCRIPT.replace("SELECT customer_id,", "SELECT transaction_id,").replace(
    "GROUP BY customer_id", "GROUP BY transaction_id"
)


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlinkJobCase]:
    settings = load_settings()
    set_connections(settings, monkeypatch)
    with FlinkJobCase.made(settings, tmp_path) as case:
        yield case


def test_a_script_is_one_job_however_often_and_by_how_many_it_is_applied(case: FlinkJobCase) -> None:
    case.sell(1_000)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: run_to_end(case.operator()), range(2))
    assert first["job_id"] == second["job_id"]
    again = run_to_end(case.operator(SCRIPT.replace("-- what", "-- all that")))
    assert (again["did"], again["job_id"]) == ("unchanged", first["job_id"])
    assert again["checkpoint"].startswith("file:")
    assert case.alive() == [first["job_id"]]
    assert case.agrees()
    found = run_to_end(
        FlinkJobSensor(task_id="sensor", job_name=case.name, max_pending_records=0, poll_interval_seconds=1)
    )
    assert (found["job_id"], found["restarts"], found["pending_records"]) == (first["job_id"], 0, 0)


def test_a_wrong_script_is_refused_by_its_line_and_what_runs_is_not_touched(case: FlinkJobCase) -> None:
    with pytest.raises(FlinkSqlError, match=r"line 35, column 8.*Column 'customer' not found"):
        run_to_end(case.operator(SCRIPT.replace("SELECT customer_id", "SELECT customer")))
    assert case.alive() == []
    first = run_to_end(case.operator())
    with pytest.raises(FlinkSqlError, match="Column 'sale_value' not found"):
        run_to_end(case.operator(SCRIPT.replace("WHERE sales_value", "WHERE sale_value")))
    assert case.alive() == [first["job_id"]]


def test_a_change_under_load_and_the_way_back_leave_no_difference(case: FlinkJobCase) -> None:
    def doubled() -> dict:
        return {customer: (2 * total, count) for customer, (total, count) in case.expected().items()}

    with Till(case):
        first = run_to_end(case.operator())
        changed = run_to_end(case.operator(TWICE))
    assert (changed["did"], changed["generation"]) == ("changed", first["generation"] + 1)
    case.sell(200)
    assert wait_until(lambda: case.totals() == doubled(), LIMIT_SECONDS)
    with Till(case):
        back = run_to_end(case.operator(action="rollback"), run_id="back")
        # a retry of the task does not go back once more
        assert run_to_end(case.operator(action="rollback"), run_id="back")["job_id"] == back["job_id"]
    assert (back["did"], case.alive()) == ("rolled_back", [back["job_id"]])
    case.sell(200)
    assert case.agrees()
    stopped = run_to_end(case.operator(action="stop"))
    assert (stopped["did"], case.alive()) == ("stopped", [])
    assert stopped["savepoint"]
    case.sell(1_000)
    resumed = run_to_end(case.operator())
    assert resumed["did"] == "started"
    assert case.agrees()


def test_a_script_of_another_meaning_is_refused_although_flink_would_take_the_state(case: FlinkJobCase) -> None:
    case.sell(500)
    first = run_to_end(case.operator())
    with pytest.raises(StateDoesNotFitError, match=r"groupBy=\[transaction_id\].*untouched.*start_fresh"):
        run_to_end(case.operator(BY_SALE))
    assert case.alive() == [first["job_id"]]
    case.sell(500)
    assert case.agrees()
    fresh = run_to_end(case.operator(BY_SALE, on_incompatible="start_fresh"))
    assert (fresh["did"], case.alive()) == ("changed", [fresh["job_id"]])
    assert wait_until(lambda: len(case.totals()) > len(case.sent), LIMIT_SECONDS)


def blackhole(case: FlinkJobCase) -> FlinkSqlJobOperator:
    """The sink's own state has no place to go: Flink refuses the submission."""
    text = SCRIPT[: SCRIPT.index("CREATE TABLE totals")] + (
        "CREATE TABLE totals (customer_id STRING, total_amount DECIMAL(18, 2), transaction_count BIGINT) "
        "WITH ('connector' = 'blackhole');\n" + SCRIPT[SCRIPT.index("INSERT INTO") :]
    )
    return case.operator(text, without=("SINK_TOPIC", "CONNECTOR"))


def in_doubles(case: FlinkJobCase) -> FlinkSqlJobOperator:
    """The sum's type is another, its words are not: the tasks find it when they begin."""
    return case.operator(SCRIPT.replace("sales_value DECIMAL(18, 2)", "sales_value DOUBLE"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        pytest.param(blackhole, "Cannot map .* state", marks=pytest.mark.long),
        (in_doubles, "must not be incompatible"),
    ],
)
def test_the_former_script_goes_on_when_only_flink_finds_that_the_state_does_not_fit(
    case: FlinkJobCase, changed: Callable[[FlinkJobCase], FlinkSqlJobOperator], reason: str
) -> None:
    case.sell(500)
    first = run_to_end(case.operator())
    for goes_on in ("goes on from its savepoint, as generation 3", "runs on, untouched"):
        with pytest.raises(StateDoesNotFitError, match=f"{reason}.*{goes_on}"):
            run_to_end(changed(case))
    assert [(kind, status) for _, kind, status in case.generations()] == [
        ("started", "stopped"), ("changed", "refused"), ("restored", "running"),
    ]  # fmt: skip
    (job_id,) = case.alive()
    assert job_id != first["job_id"]
    case.sell(500)
    assert case.agrees()


@pytest.mark.long
def test_whoever_watches_follows_a_change_and_resumes_as_often_as_it_may(case: FlinkJobCase) -> None:
    def watch() -> None:
        with pytest.raises(FlinkJobFailedError, match=r"ended as CANCELED after it was resumed 1 times"):
            run_to_end(case.operator(watch_until=2.0 * LIMIT_SECONDS, resume_budget=1), run_id="watch")

    def is_running(number: int) -> bool:
        return bool(case.alive()) and case.generations()[-1][::2] == (number, "running")

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        assert wait_until(lambda: is_running(1), LIMIT_SECONDS)
        run_to_end(case.operator(FILTERED), run_id="change")
        case.sell(500)
        assert case.agrees()
        for number in (2, 3):
            assert wait_until(lambda number=number: is_running(number), LIMIT_SECONDS)
            (job_id,) = case.alive()
            case.hook.cancel(job_id)
            assert wait_until(lambda job_id=job_id: job_id not in case.alive(), LIMIT_SECONDS)
            case.sell(500)
        watching.result(LIMIT_SECONDS)
    assert [(kind, status) for _, kind, status in case.generations()] == [
        ("started", "stopped"), ("changed", "ended"), ("resumed", "running"),
    ]  # fmt: skip
    run_to_end(case.operator(FILTERED))
    assert case.agrees()


@pytest.mark.long
def test_a_job_that_was_cancelled_by_hand_goes_on_from_its_newest_checkpoint(case: FlinkJobCase) -> None:
    case.sell(1_000)
    first = run_to_end(case.operator())
    assert case.agrees()
    case.hook.cancel(first["job_id"])
    assert wait_until(lambda: not case.alive(), LIMIT_SECONDS)
    case.sell(1_000)
    resumed = run_to_end(case.operator())
    assert (resumed["did"], resumed["generation"]) == ("resumed", 2)
    assert case.agrees()


@pytest.mark.long
def test_a_state_that_is_gone_is_named_with_the_choice_there_is(case: FlinkJobCase) -> None:
    nowhere = "file:///nowhere/savepoint-1"
    with pytest.raises(FlinkStateLostError, match=r"file:///nowhere/savepoint-1.*savepoint_path.*start_fresh"):
        run_to_end(case.operator(savepoint_path=nowhere))
    assert case.alive() == []
    fresh = run_to_end(case.operator(savepoint_path=nowhere, on_incompatible="start_fresh"))
    assert case.alive() == [fresh["job_id"]]


@pytest.mark.long
def test_another_script_waits_while_a_change_is_under_way(case: FlinkJobCase) -> None:
    with pytest.raises(FlinkStateLostError):  # claimed, and not carried out
        run_to_end(case.operator(savepoint_path="file:///nowhere/savepoint-1"), run_id="first")
    with pytest.raises(FlinkJobBusyError, match=r"Generation 1 .* being started by another task"):
        run_to_end(case.operator(TWICE), run_id="second")
    # nobody was at it any more
    other = run_to_end(case.operator(TWICE), run_id="first")
    assert case.alive() == [other["job_id"]]
    assert [status for *_, status in case.generations()] == ["abandoned", "running"]


def test_a_job_that_does_not_exist_is_not_well(case: FlinkJobCase) -> None:
    with pytest.raises(FlinkJobNotReadyError, match="no job of this name runs"):
        run_to_end(FlinkJobSensor(task_id="sensor", job_name=case.name, timeout=2, poll_interval_seconds=0.5))


def test_airflow_renders_its_arguments_and_defers_it(case: FlinkJobCase, run_task: RunTask) -> None:
    stated = {"job_name": "{{ dag_run.conf.job }}", "keyspace": "{{ dag_run.conf.job }}"}
    nothing = run_task(case.operator(**stated, action="{{ 'stop' }}"), conf={"job": case.name})
    assert nothing.value == {"job": case.name, "did": "stopped", "generation": 0}
    applied = run_task(case.operator(**stated), conf={"job": case.name})
    assert applied.state == "deferred"
    assert len(case.alive()) == 1
    assert [(number, kind) for number, kind, _ in case.generations()] == [(1, "started")]


def test_going_back_without_a_former_script_is_refused(case: FlinkJobCase) -> None:
    with pytest.raises(SpecError, match="no former script"):
        run_to_end(case.operator(action="rollback"))
