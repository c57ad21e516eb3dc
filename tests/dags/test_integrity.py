"""What holds for every DAG file, whatever it does: it parses, cheaply, and follows the house's policy."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pkgutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, BaseOperator
from airflow.serialization.helpers import serialize_template_field
from airflow.serialization.serialized_objects import DagSerialization

import tallyclerk
from tallyclerk.operators.replay import REPLAY_DAG
from tallyclerk.retries import DEFAULT_RETRY_POLICY

ROOT = Path(__file__).resolve().parents[2]
DAG_FILES = sorted((ROOT / "dags").rglob("*.py"))
HEAVY = ("pyarrow", "pandas", "numpy", "duckdb", "deltalake", "cassandra", "confluent_kafka", "pyspark", "psycopg")
PARSE_CPU_SECONDS = 2.0
BASES = {"LoadOperator", "LakeLoadOperator", "ReplayOperator"}
"""Operator classes that no DAG uses: they exist to be derived from."""

MEASURE = """
import importlib.util, json, sys, time
import airflow.sdk
import airflow.providers.apache.spark.operators.spark_submit
before, began = set(sys.modules), time.process_time()
spec = importlib.util.spec_from_file_location("parsed_dag", sys.argv[1])
spec.loader.exec_module(importlib.util.module_from_spec(spec))
seconds = time.process_time() - began
print(json.dumps({"seconds": seconds, "imported": sorted(set(sys.modules) - before)}))
"""


class Tag(StrEnum):
    """Every tag there is: a subject, and how often it runs."""

    RETAIL = "retail"
    BATCH = "batch"
    STREAM = "stream"


@pytest.fixture(scope="module")
def dags() -> dict[str, DAG]:
    bag = DagBag(str(ROOT / "dags"))
    assert bag.import_errors == {}
    return bag.dags


@pytest.fixture(scope="module", params=DAG_FILES, ids=lambda path: path.stem)
def parse(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """CPU seconds and modules that parsing one file adds to Airflow's own, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(request.param)],
        env={
            **os.environ,
            "AIRFLOW_HOME": str(tmp_path_factory.mktemp("airflow")),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_each_file_gives_dags_when_it_is_parsed(dags: dict[str, DAG]) -> None:
    assert {Path(dag.fileloc) for dag in dags.values()} == set(DAG_FILES)


def test_only_few_modules_are_imported_when_a_file_is_parsed(parse: dict) -> None:
    assert [name for name in parse["imported"] if name.partition(".")[0] in HEAVY] == []


def test_the_budget_is_kept_when_a_file_is_parsed(parse: dict) -> None:
    assert parse["seconds"] < PARSE_CPU_SECONDS


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_no_dag_file_imports_another(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            imported.add(node.module)
    assert {name.partition(".")[0] for name in imported}.isdisjoint({"dags", *(other.stem for other in DAG_FILES)})


def test_each_dag_says_who_owns_it_and_what_it_does(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        assert dag.owner not in ("", "airflow"), name
        assert {task.owner for task in dag.tasks} == {dag.owner}, name
        assert len((dag.doc_md or "").split()) > 20, name
        assert dag.tags, name
        assert dag.tags <= set(Tag), name


def test_each_dag_says_how_many_runs_are_safe(dags: dict[str, DAG]) -> None:
    for name, dag in dags.items():
        assert dag.catchup is False, name
        # the number is a decision about the DAG, not Airflow's default
        assert "max_active_runs" in (ROOT / "dags" / Path(dag.fileloc).name).read_text(encoding="utf-8"), name
        assert 1 <= dag.max_active_runs <= 4, name


def test_each_task_is_retried_by_the_one_policy(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        for task in dag.tasks:
            assert task.retry_policy == DEFAULT_RETRY_POLICY, task
            # a stream waits for a service that is away for hours; a batch that fails for minutes is for somebody to look at
            assert 1 <= task.retries <= (500 if dag.dag_id == "retail_stream" else 5), task


def test_each_task_comes_back_when_its_dag_is_serialized(dags: dict[str, DAG]) -> None:
    for dag in dags.values():
        restored = DagSerialization.from_dict(json.loads(json.dumps(DagSerialization.to_dict(dag))))
        assert set(restored.task_dict) == set(dag.task_dict)
        for task in dag.tasks:
            twin = restored.get_task(task.task_id)
            assert (twin.task_type, twin.downstream_task_ids) == (task.task_type, task.downstream_task_ids)
            for field in task.template_fields:
                assert getattr(twin, field) == serialize_template_field(getattr(task, field), field), (task, field)


def test_the_dag_that_command_and_page_start_takes_what_they_send_and_tells_what_they_read(
    dags: dict[str, DAG],
) -> None:
    dag = dags[REPLAY_DAG]
    assert set(dag.params) == {"dataset", "date", "corrections", "note"}
    assert "ledger_closes" in dag.task_dict


def test_each_operator_is_used_by_a_dag(dags: dict[str, DAG]) -> None:
    """Otherwise the test above would not hold for it."""
    ours = set()
    for module in pkgutil.walk_packages(tallyclerk.__path__, "tallyclerk."):
        if module.name.split(".")[1] in ("transfers", "operators", "sensors"):
            found = vars(importlib.import_module(module.name)).values()
            ours |= {each for each in found if isinstance(each, type) and issubclass(each, BaseOperator)}
    ours = {each.__name__ for each in ours if each.__module__.startswith("tallyclerk.")}
    assert ours - BASES == {task.task_type for dag in dags.values() for task in dag.tasks} & ours
