"""Our own fixtures: a DAG without a scheduler takes the course that it takes with one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.sdk import DAG, Asset, BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from tests.running import RunDag

COUNTED = Asset(name="counted", uri="test://counted")


class Count(BaseOperator):
    """Returns ``of`` and one more."""

    template_fields = ("of", "title")

    def __init__(self, *, of: Any = (), title: str = "", refuse: type[Exception] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.of, self.title, self.refuse = of, title, refuse

    def execute(self, context: Any) -> list[Any]:
        if self.refuse:
            raise self.refuse("no")
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"title": self.title}
        return [*self.of, len(self.of)]


@pytest.fixture
def dag() -> DAG:
    return DAG("counting", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC))


def test_each_task_gets_what_those_before_it_returned(dag: DAG, run_dag: RunDag) -> None:
    with dag:
        first = Count(task_id="first")
        Count(task_id="second", of=first.output, title="{{ dag_run.conf['title'] }}", outlets=[COUNTED])
    run = run_dag(dag, conf={"title": "x"})
    assert run.state == "success"
    assert {name: task.value for name, task in run.tasks.items()} == {"first": [0], "second": [0, 1]}
    assert run.tasks["second"].events == {COUNTED.uri: {"title": "x"}}


@pytest.mark.parametrize(
    ("refusal", "state", "own", "behind"),
    [(ValueError, "failed", "failed", "upstream_failed"), (AirflowSkipException, "success", "skipped", "skipped")],
)
def test_what_depends_on_a_task_does_not_run_when_it_fails_or_skips(
    dag: DAG, run_dag: RunDag, refusal: type[Exception], state: str, own: str, behind: str
) -> None:
    with dag:
        Count(task_id="first", refuse=refusal) >> Count(task_id="second") >> Count(task_id="third")
        Count(task_id="beside")
    run = run_dag(dag)
    assert run.state == state
    assert {name: task.state for name, task in run.tasks.items()} == {
        "first": own, "second": behind, "third": behind, "beside": "success"
    }  # fmt: skip


def test_a_dag_is_refused_when_it_needs_a_scheduler(dag: DAG, run_dag: RunDag) -> None:
    with dag:
        Count(task_id="first") >> Count(task_id="second", trigger_rule="all_done")
    with pytest.raises(NotImplementedError, match="second"):
        run_dag(dag)
