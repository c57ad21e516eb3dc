"""Rules judge real rows in DuckDB as their words say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallyclerk.contracts import Contract, Rule
from tallyclerk.contracts.projections import duckdb_types
from tests.unit.contracts.conftest import Load

GOOD_ROW = {
    "id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "customer_id": 7,
    "amount": Decimal("1.50"),
    "note": "a note",
    "channel": "web",
    "sold_at": datetime(2026, 1, 2, 3, 4, 5),  # noqa: DTZ001  a TIMESTAMP that means UTC
    "sold_on": "2026-01-02",
}
Judge = Callable[..., list[str]]


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


@pytest.fixture
def broken(connection: duckdb.DuckDBPyConnection) -> Judge:
    """The ids of the rules that the rows break; each row is the good one with changes."""

    def judge(contract: Contract, *rows: dict[str, Any]) -> list[str]:
        types = duckdb_types(contract)
        connection.execute(f"CREATE OR REPLACE TABLE t ({', '.join(f'{n} {t}' for n, t in types.items())})")
        for changes in rows:
            values = {**GOOD_ROW, **changes}
            connection.execute(
                f"INSERT INTO t VALUES ({', '.join('?' * len(types))})", [values[name] for name in types]
            )
        return [rule.id for rule in contract.rules if violated(connection, rule)]

    return judge


def violated(connection: duckdb.DuckDBPyConnection, rule: Rule) -> bool:
    query = (
        f"SELECT count(*) > 0 FROM t WHERE {rule.violation}"
        if rule.kind == "row"
        else f"SELECT {rule.violation} FROM t"
    )
    return bool(connection.execute(query).fetchone()[0])  # type: ignore[index]


def test_a_good_row_breaks_nothing(load: Load, broken: Judge) -> None:
    assert broken(load(), {}) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"amount": Decimal("-0.01")}, "amount.minimum"),
        ({"amount": None}, "amount.required"),
        ({"note": "x" * 21}, "note.maxLength"),
        ({"note": "NO"}, "note.pattern"),
        ({"channel": "mail"}, "known_channel"),
        ({"sold_on": None}, "sold_on.required"),
    ],
)
def test_a_bad_value_breaks_its_rule(load: Load, broken: Judge, changes: dict[str, Any], rule: str) -> None:
    assert broken(load(), {}, changes | {"id": "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}) == [rule]


def test_an_empty_value_breaks_only_what_requires_it(load: Load, broken: Judge) -> None:
    assert broken(load(), {"note": None, "channel": None}) == []


def test_the_whole_table_is_judged(load: Load, broken: Judge) -> None:
    assert broken(load()) == ["not_empty"]
    assert broken(load(), {}, {}) == ["one_row_per_id"]


LIMITS = {
    "minimum": lambda value: value >= 5,
    "maximum": lambda value: value <= 5,
    "exclusiveMinimum": lambda value: value > 5,
    "exclusiveMaximum": lambda value: value < 5,
    "multipleOf": lambda value: value % 5 == 0,
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(limit=st.sampled_from(sorted(LIMITS)), value=st.decimals(-20, 20, places=2))
def test_a_limit_says_what_the_standard_says(load: Load, broken: Judge, limit: str, value: Decimal) -> None:
    contract = load(("{minimum: 0}", f"{{{limit}: 5}}"))
    assert (broken(contract, {"amount": value}) == []) == LIMITS[limit](value)


@pytest.mark.parametrize(
    ("comparison", "holds"),
    [
        ("mustBe: 2", True), ("mustBe: 3", False), ("mustNotBe: 2", False), ("mustBeGreaterThan: 2", False),
        ("mustBeGreaterOrEqualTo: 2", True), ("mustBeLessThan: 2", False), ("mustBeLessOrEqualTo: 2", True),
        ("mustBeBetween: [2, 3]", True), ("mustNotBeBetween: [2, 3]", False),
    ],
)  # fmt: skip
def test_a_comparison_says_what_the_standard_says(load: Load, broken: Judge, comparison: str, holds: bool) -> None:
    contract = load(("mustBeGreaterThan: 0", comparison))
    other = {"id": "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}
    assert (broken(contract, {}, other) == []) == holds


SQL = (
    "metric: invalidValues, arguments: {validValues: [shop, web]}, mustBe: 0, severity: warning",
    "type: sql, query: \"SELECT count(*) FROM {object} WHERE {property} = 'fax' AND amount > 1\", mustBe: 0, "
    "customProperties: [{property: onViolation, value: reject}]",
)


def test_a_narrow_query_becomes_a_condition_on_a_row(load: Load, broken: Judge) -> None:
    contract = load(SQL)
    assert next(rule for rule in contract.rules if rule.check == "sql").on_violation == "reject"
    assert broken(contract, {"channel": "fax"}) == ["known_channel"]
    assert broken(contract, {"channel": "fax", "amount": 1}) == []


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("{property} =", "{colunm} =", "{colunm} stands for nothing here"),
        ("AND amount", "AND amuont", "did you mean 'amount'?"),
        ("WHERE {property}", "JOIN other WHERE {property}", "is applied here"),
        ("AND amount > 1", "AND count(*) > 1", "cannot contain aggregates"),
        ("amount > 1", "(amount > 1", "DuckDB does not take it"),
        ("mustBe: 0, custom", "mustBeLessThan: 5, custom", "is applied here"),
        ("value: reject", "value: ignore", "did you mean"),
    ],
)
def test_a_query_that_is_not_narrow_is_a_finding(findings: Any, right: str, wrong: str, finding: str) -> None:
    found = findings((SQL[0], SQL[1].replace(right, wrong)))
    assert len(found) == 1
    assert "quality[known_channel]" in found[0]
    assert finding in found[0] or finding == "did you mean"


def test_a_share_of_empty_values_is_measured(load: Load, broken: Judge) -> None:
    contract = load(
        ("metric: invalidValues, arguments: {validValues: [shop, web]}, mustBe: 0", "metric: nullValues, mustBeLessThan: 50, unit: percent"),
    )  # fmt: skip
    other = {"id": "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}
    assert broken(contract, {"channel": None}, other) == ["known_channel"]
    assert broken(contract, {}, other) == []
    rule = next(rule for rule in contract.rules if rule.id == "known_channel")
    assert (rule.kind, rule.on_violation) == ("table", "warn")


def test_a_rule_about_the_table_cannot_reject_a_row(findings: Any) -> None:
    found = findings(("severity: error}", "customProperties: [{property: onViolation, value: reject}]}"))
    assert found == [
        "sales.odcs.yaml:55: schema[sales].quality[not_empty]: a rule about the whole table cannot reject a row; "
        "write onViolation: warn or fail"
    ]
