"""Scripts with placeholders, and plans as Flink 2.2 gives them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tallyclerk.exceptions import SpecError
from tallyclerk.operators.flink_script import filled, misfit, read_script
from tallyclerk.operators.flink_state import newest_visible

TEXT = "-- a comment; with @NOTHING@\nSET 'pipeline.name' = '@JOB_NAME@';\n\nSELECT '@TOPIC@';\n"


def script(text: str = TEXT, **parameters: object) -> Any:
    return filled(text, {"TOPIC": "sales", **parameters}, job="kpis", source="kpis.sql")


def test_placeholders_are_filled_and_line_numbers_stay_the_files() -> None:
    assert script().text == "\nSET 'pipeline.name' = 'kpis';\n\nSELECT 'sales';\n"


def test_only_what_matters_makes_another_script() -> None:
    assert script().digest == script("-- other words\n\n" + TEXT.split("\n", 1)[1]).digest
    assert script().digest != script(TOPIC="others").digest


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"TOPIK": "x"}, "no placeholder @TOPIK@"),
        ({"TOPIC": "x'; DROP TABLE y"}, "quotation mark"),
        ({"TOPIC": "x\ny"}, "line break"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_by_name(parameters: dict[str, str], named: str) -> None:
    with pytest.raises(SpecError, match=named):
        script(**parameters)


def test_a_placeholder_without_a_value_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="no value is given for @TOPIC@"):
        filled(TEXT, {}, job="kpis", source="kpis.sql")


SAFE = "CREATE TABLE t WITH (\n  'topic' = '@TOPIC@',\n  @KAFKA_SECURITY@\n  'format' = 'json'\n);\n"


def secured(settings: dict[str, str]) -> Any:
    return filled(SAFE, {"TOPIC": "sales"}, job="kpis", source="kpis.sql", security=lambda: settings)


def test_a_safe_connection_adds_options_and_no_line() -> None:
    text = secured({"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}).text
    assert "\n  'properties.security.protocol' = 'SASL_SSL', 'properties.sasl.mechanism' = 'PLAIN',\n" in text
    assert text.count("\n") == SAFE.count("\n")


def test_a_script_is_the_one_it_was_when_the_connection_is_plain() -> None:
    without = filled(SAFE.replace("  @KAFKA_SECURITY@\n", ""), {"TOPIC": "sales"}, job="kpis", source="kpis.sql")
    assert secured({}).digest == without.digest


def test_a_connection_that_could_leave_its_quotes_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"ssl\.truststore\.location has a quotation mark"):
        secured({"ssl.truststore.location": "/x', 'topic' = 'y"})


def test_the_connection_is_not_read_when_no_place_asks_for_it() -> None:
    def away() -> dict[str, str]:
        raise AssertionError

    filled(TEXT, {"TOPIC": "sales"}, job="kpis", source="kpis.sql", security=away)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.sql cannot be read: No such file"):
        read_script(tmp_path / "none.sql", {}, job="kpis")


def plan(
    aggregate: str, *, numbers: tuple[int, int] = (4, 5), calc: str = "customer_id, sales_value"
) -> dict[str, Any]:
    first, second = numbers
    return {
        "nodes": [
            {
                "description": f"[{first}]:{aggregate}<br/>+- [{second}]:Calc(select=[customer_id])<br/>"
                f"   +- kpis[{second}]: Writer<br/>      +- kpis[{second}]: Committer<br/>"
            },
            {"description": f"[1]:TableSourceScan(table=[[sales]])<br/>+- [2]:Calc(select=[{calc}])<br/>"},
        ]
    }


SUM = (
    "GroupAggregate(groupBy=[customer_id], select=[customer_id, SUM(sales_value), SUM($f1) AS $f1, COUNT(*) AS EXPR$2])"
)


@pytest.mark.parametrize(
    "changed",
    [
        plan(SUM, numbers=(17, 18)),
        plan(SUM.replace(" AS $f1", " AS total_amount")),
        plan(SUM.replace("$f1", "$f7")),
        plan(SUM, calc="customer_id, sales_value, where=[>(sales_value, 0)]"),
    ],
    ids=["numbers", "names", "generated names", "filter"],
)
def test_state_fits_when_every_step_that_keeps_it_is_the_same(changed: dict[str, Any]) -> None:
    assert misfit(plan(SUM), changed) == ""


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (plan(SUM.replace("customer_id", "product_id")), r"groupBy=\[product_id\]"),
        (plan(SUM.replace("SUM(", "MAX(")), r"MAX\(sales_value\)"),
        (plan(f"Deduplicate(keep=[FirstRow], key=[id])<br/>+- [9]:{SUM}"), r"Deduplicate\(keep"),
    ],
    ids=["key", "function", "more"],
)
def test_state_does_not_fit_when_a_step_that_keeps_it_is_another(changed: dict[str, Any], named: str) -> None:

    assert re.search(named, misfit(plan(SUM), changed))


def test_the_newest_checkpoint_is_found_where_the_folder_is_seen(tmp_path: Path) -> None:
    for number in (9, 10, 11):
        (tmp_path / f"chk-{number}").mkdir()
    for number in (9, 10):  # the eleventh is not complete
        (tmp_path / f"chk-{number}" / "_metadata").touch()
    assert newest_visible(f"file:{tmp_path}/chk-7") == f"file:{tmp_path}/chk-10"
    for path in ("file:/nowhere/chk-7", "hdfs://n/c/chk-7", "file:/savepoints/savepoint-1", ""):
        assert newest_visible(path) == path
