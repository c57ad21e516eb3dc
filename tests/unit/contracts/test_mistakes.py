"""Every mistake is found before data comes: with file, line, path and remedy, and all of them at once."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from open_data_contract_standard.model import OpenDataContractStandard

from tallyclerk.contracts import load_contract
from tallyclerk.exceptions import SpecErrors
from tests.unit.contracts.conftest import GOOD, Break, Load

MISTAKES = {
    # what the standard forbids
    "key of a server": ('delimiter: ";"', 'delimter: ";"', "12: servers[landing].delimter: unknown key; did you mean 'delimiter'?"),
    "key of an option": ("{minimum: 0}", "{minimun: 0}", "35: schema[sales].properties[amount].logicalTypeOptions.minimun: unknown key; did you mean 'minimum'?"),
    "key of a quality rule": ("mustBeGreaterThan: 0", "mustBeGreatherThan: 0", "55: schema[sales].quality[not_empty].mustBeGreatherThan: unknown key; did you mean 'mustBeGreaterThan'?"),
    "metric": ("metric: rowCount", "metric: rowcount", "55: schema[sales].quality[not_empty].metric: \"rowcount\" is not allowed; did you mean 'rowCount'?"),
    "two comparisons": ("mustBe: 0}", "mustBe: 0, mustBeLessThan: 5}", "56: schema[sales].quality[one_row_per_id]: needs exactly one comparison; write one of mustBe,"),
    "logical type": ("logicalType: integer", "logicalType: integr", "34: schema[sales].properties[customer_id].logicalType: \"integr\" is not allowed; did you mean 'integer'?"),
    "missing key": ("kind: DataContract\n", "", "1: document: lacks the key 'kind'; add it"),
    "version as number": ("version: 1.2.0", "version: 1.2", '5: version: 1.2 is not text; put it in quotes: "1.2"'),
    "text for a number": ("maxLength: 20", "maxLength: '20'", '36: schema[sales].properties[note].logicalTypeOptions.maxLength: "20" is not a whole number; write it without quotes'),
    "an older standard": ("apiVersion: v3.1.0", "apiVersion: v2.2.2", "1: apiVersion: v2.2.2 is not read here; write v3.1.0 or v3.2.0"),
    # YAML
    "key twice": ("status: active\n", "status: active\nstatus: draft\n", "7: document: is not YAML: the key 'status' is twice; mend this line or the one above"),
    "not YAML": ("key: [id]}\n", "key: [id}\n", "20: document: is not YAML:"),
    "anchor": ("servers:\n", "servers: &all\n", "7: document: is not YAML: anchors and aliases are not read; write it out"),
    # types
    "physical type": ("physicalType: bigint", "physicalType: bigit", "34: schema[sales].properties[customer_id].physicalType: 'bigit' is not a known type; did you mean 'bigint'?"),
    "decimal": ("decimal(12,2)", "decimal(2,12)", "35: schema[sales].properties[amount].physicalType: 'decimal(2,12)' is not allowed; a decimal has 1 to 38 digits"),
    "float for money": ('"decimal(12,2)"', "float", "35: schema[sales].properties[amount].physicalType: 'float' is not allowed; single precision loses cents; use decimal(p,s)"),
    "types that disagree": ("logicalType: integer", "logicalType: number", "34: schema[sales].properties[customer_id].logicalType: 'number' does not fit 'bigint'; write integer"),
    "no logical type": ("{name: note, logicalType: string,", "{name: note,", "36: schema[sales].properties[note]: lacks the key 'logicalType'; add one of string,"),
    "date pattern": ("yyyy-MM-dd HH", "YYYY-MM-dd HH", "46: schema[sales].properties[sold_at].logicalTypeOptions.format: 'YYYY-MM-dd HH:mm:ss': 'YYYY' is not read here; known: yyyy,"),
    "date pattern without day": ("yyyy-MM-dd HH", "yyyy-MM HH", "46: schema[sales].properties[sold_at].logicalTypeOptions.format: 'yyyy-MM HH:mm:ss': does not tell the day; write all of"),
    "local time": ('mm:ss"}', 'mm:ss", defaultTimezone: Europe/Berlin}', "46: schema[sales].properties[sold_at].logicalTypeOptions.defaultTimezone: 'Europe/Berlin' is not UTC"),
    "limit beyond the scale": ("minimum: 0}", "minimum: 0.005}", "35: schema[sales].properties[amount].logicalTypeOptions.minimum: 0.005 is not a decimal(12,2): it has more than 2 digits"),
    "regular expression": ("[a-z ]*$", "[a-z *$", "36: schema[sales].properties[note].logicalTypeOptions.pattern: DuckDB does not take it: missing ]"),
    "column twice": ("name: note", "name: Amount", "36: schema[sales].properties[Amount].name: 'Amount' stands twice (names ignore case); rename or remove one"),
    "position without a flag": ("partitioned: true", "partitionKeyPosition: 1", "51: schema[sales].properties[sold_on].partitionKeyPosition: stands without `partitioned: true`; add it"),
    # our own properties
    "custom property": ("property: kafka", "property: kafak", "19: schema[sales].customProperties[kafak].property: unknown property 'kafak'; did you mean 'kafka'?"),
    "custom property elsewhere": ("property: late\n", "property: rest\n", "60: customProperties[rest].property: 'rest' does not belong here; move it to a server of type api"),
    "key of csv": ("nullText:", "nulltext:", "15: servers[landing].customProperties[csv].value.nulltext: unknown key; did you mean 'nullText'?"),
    "parse mode": ("FAILFAST", "FAILSAFE", "15: servers[landing].customProperties[csv].value.parseMode: 'FAILSAFE' is not allowed; did you mean 'FAILFAST'?"),
    "placeholder": ("sales_{date}", "sales_{day}", "11: servers[landing].path: {day} is not known; the one placeholder is {date}"),
    "duration": ("PT10M", "10 minutes", "22: schema[sales].customProperties[incremental].value.lookback: '10 minutes' is not a duration; write it as in PT10M"),
    "severity": ("severity: warning", "severity: warn", "41: schema[sales].properties[channel].quality[known_channel].severity: 'warn' is not allowed; did you mean 'warning'?"),
    "rule that says nothing": ("{id: not_empty, metric: rowCount, mustBeGreaterThan: 0, severity: error}", "{id: not_empty}", "55: schema[sales].quality[not_empty]: says nothing that can be checked; add a metric"),
    "no allowed values": ("{validValues: [shop, web]}", "{validValues: shop}", "41: schema[sales].properties[channel].quality[known_channel].arguments.validValues: 'shop' is not a list of values;"),
    # names of columns
    "column of kafka": ("{topic: sales, key: [id]}", "{topic: sales, key: [idd]}", "20: schema[sales].customProperties[kafka].value.key[0]: no column 'idd'; did you mean 'id'?"),
    "column of incremental": ("column: sold_at", "column: sold_att", "22: schema[sales].customProperties[incremental].value.column: no column 'sold_att'; did you mean 'sold_at'?"),
    "incremental by a text": ("column: sold_at", "column: note", "22: schema[sales].customProperties[incremental].value.column: note is text; name a source column of timestamp"),
    "column of cassandra": ("amount: amount", "amount: amout", "30: schema[sales].customProperties[cassandra].value.columns.amount: no column 'amout'; did you mean 'amount'?"),
    "key of cassandra": ("[customer]", "[custmer]", "27: schema[sales].customProperties[cassandra].value.partitionKey[0]: 'custmer' is not in `columns` of this table; did you mean"),
    "narrower cassandra type": ("{customer: text}", "{customer: int}", "31: schema[sales].customProperties[cassandra].value.types.customer: 'int' does not hold every bigint;"),
    "index of cassandra": ("{customer: text}", "{customer: text}\n          indexes: [sold_at]", "32: schema[sales].customProperties[cassandra].value.indexes[0]: 'sold_at' is not in `columns` of this table; did you mean 'sold_on'?"),
    "index of the partition key": ("{customer: text}", "{customer: text}\n          indexes: [customer]", "32: schema[sales].customProperties[cassandra].value.indexes[0]: 'customer' is the whole partition key, which needs none; remove it"),
    "key that may be empty": ("physicalType: bigint, required: true", "physicalType: bigint", "30: schema[sales].customProperties[cassandra].value.columns.customer: is in the key, and customer_id may be empty"),
    "column of a quality rule": ("properties: [id]", "properties: [ids]", "56: schema[sales].quality[one_row_per_id].arguments.properties[0]: no column 'ids'; did you mean 'id'?"),
    "argument of a quality rule": ("{validValues:", "{validvalues:", "41: schema[sales].properties[channel].quality[known_channel].arguments.validvalues: unknown argument; did you mean"),
    "rule twice": ("id: not_empty", "id: known_channel", "55: schema[sales].quality[known_channel]: the rule 'known_channel' stands twice"),
    "column of a derivation": ("CAST(sold_at", "CAST(sold_att", "53: schema[sales].properties[sold_on].transformLogic: DuckDB does not take it: Referenced column \"sold_att\" not found"),
    "derivation over many rows": ("CAST(sold_at AS", "CAST(max(sold_at) AS", "53: schema[sales].properties[sold_on].transformLogic: DuckDB does not take it: WHERE clause cannot contain aggregates"),
    "source of a derivation": ("[sales.sold_at]", "[sales.soldat]", "52: schema[sales].properties[sold_on].transformSourceObjects[0]: no source column 'soldat'; did you mean 'sales.sold_at'?"),
    "element of a service level": ("element: sales.sold_at", "element: sale.sold_at", "58: slaProperties[latency].element: no data set 'sale' in this contract; write sales.sold_at"),
}  # fmt: skip
MISTAKES["key of a column"] = (
    "required: true, logicalTypeOptions: {minimum",
    "requird: true, logicalTypeOptions: {minimum",
    "35: schema[sales].properties[amount].requird: unknown key; did you mean 'required'?",
)


@pytest.mark.parametrize(("right", "wrong", "finding"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_the_one_finding(findings: Break, right: str, wrong: str, finding: str) -> None:
    found = findings((right, wrong))
    assert len(found) == 1
    assert found[0].startswith(f"sales.odcs.yaml:{finding}")


def test_all_mistakes_are_found_at_once_and_in_the_order_of_the_lines(findings: Break) -> None:
    chosen = [
        "an older standard", "version as number", "placeholder", "key of a server", "parse mode", "column of kafka",
        "duration", "key of cassandra", "column of cassandra", "logical type", "key of a column", "decimal",
        "text for a number", "severity", "date pattern", "source of a derivation", "column of a derivation",
        "key of a quality rule", "column of a quality rule", "element of a service level",
    ]  # fmt: skip
    changes = {MISTAKES[name][0]: MISTAKES[name][1] for name in chosen}
    expected = [MISTAKES[name][2] for name in chosen]
    found = findings(*changes.items())
    assert len(found) == len(chosen)
    for finding in expected:
        place = finding.partition(" ")[2].partition(":")[0]
        assert any(f" {place}: " in line for line in found), f"{finding} is not among {found}"
    lines = [int(line.split(":")[1]) for line in found]
    assert lines == sorted(lines)


def test_the_packages_own_model_misses_most_of_them() -> None:
    """Why there is more here than ``OpenDataContractStandard.from_string``."""
    missed = 0
    for right, wrong, _ in MISTAKES.values():
        try:
            OpenDataContractStandard.from_string(GOOD.replace(right, wrong))
        except (ValueError, yaml.YAMLError):
            continue
        missed += 1
    assert missed > len(MISTAKES) * 0.8


def test_another_tools_property_is_left_alone_when_it_names_its_vendor(load: Load) -> None:
    load(("  - property: late\n", "  - {property: colour, value: red, vendor: soda}\n  - property: late\n"))


def test_a_file_that_is_not_there_is_a_finding(tmp_path: Any) -> None:
    with pytest.raises(SpecErrors, match="cannot be read") as refusal:
        load_contract(tmp_path / "none.odcs.yaml")
    assert len(refusal.value.findings) == 1


@pytest.mark.parametrize("text", ["", "- a\n", "just text", "a: b: c\n", "\t", "a: \x01\n"])
def test_what_is_no_mapping_is_a_finding(tmp_path: Any, text: str) -> None:
    path = tmp_path / "sales.odcs.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecErrors):
        load_contract(path)


def places(tree: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place, *(inner for key, child in children for inner in places(child, (*place, key)))]


JUNK = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "x", "'; --", [], ["x"], [[]], [None], {}, {"x": 1}, {"name": "x"}, 10**40]
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(places(yaml.safe_load(GOOD))[1:]), junk=JUNK)
def test_junk_anywhere_is_a_finding_or_a_contract_and_never_another_error(tmp_path: Any, place: Any, junk: Any) -> None:
    document = yaml.safe_load(GOOD)
    inside = document
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = junk
    path = tmp_path / "sales.odcs.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    try:
        problems: tuple[str, ...] = ()
        contract = load_contract(path)
    except SpecErrors as refusal:
        problems = refusal.findings
    assert problems or contract.columns
    assert all(line.startswith(f"{path}:") and ": " in line for line in problems)
