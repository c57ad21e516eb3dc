"""A connector's configuration: read strictly, compared exactly, no password in clear and none shown."""

import json

import pytest

from stack.settings import ROOT
from tallyclerk.exceptions import ConnectorRefusedError, SpecError
from tallyclerk.operators.connector_config import changes, normal, read_config, refuse_clear_secrets

COMMITTED = sorted((ROOT / "include" / "connect").glob("*.json"))


def test_values_are_kept_as_connect_keeps_them() -> None:
    text = '{"a": "x", "b": 5, "c": true, "d": 0.5, "e": ""}'
    assert read_config(text, "f") == {"a": "x", "b": "5", "c": "true", "d": "0.5", "e": ""}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[1]", "one JSON object"),
        ('{"a": ', "JSON"),
        ('{"a": null, "b": {"c": 1}}', "a, b must be"),
        ('{"a": "1", "a": "2"}', "a stands there twice"),
        ('{"name": "x"}', "the operator's"),
    ],
)
def test_what_is_no_configuration_is_refused(text: str, named: str) -> None:
    with pytest.raises(SpecError, match=named) as caught:
        read_config(text, "somewhere.json")
    assert "somewhere.json" in str(caught.value)


def test_only_what_differs_is_a_change_and_a_secret_is_not_shown() -> None:
    before = {"same": "1", "new.value": "1", "gone": "1", "database.password": "old-hush", "plugin.field": "old-hush"}
    after = {"same": "1", "new.value": "2", "added": "3", "database.password": "hush", "plugin.field": "hush"}
    found = changes(before, after, {"plugin.field"})
    assert [str(change) for change in found] == [
        "added: added, '3'",
        "database.password: changed (not shown)",
        "gone: removed, was '1'",
        "new.value: '1' → '2'",
        "plugin.field: changed (not shown)",
    ]
    assert "hush" not in repr(found)
    assert changes(after, after, set()) == []


@pytest.mark.parametrize(
    "name",
    [
        "database.password",
        "value.converter.basic.auth.user.info",
        "connection.apiKey",
        "sasl.jaas.config",
        "database.sslpassword",
    ],
)
def test_a_secret_in_clear_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConnectorRefusedError, match=name) as caught:
        refuse_clear_secrets("c", {name: "hush"}, set())
    assert "hush" not in str(caught.value)
    refuse_clear_secrets("c", {name: "${file:/secrets/x.properties:key}", "other": "hush"}, set())


def test_what_the_plugin_calls_a_password_is_a_secret_whatever_its_name() -> None:
    with pytest.raises(ConnectorRefusedError, match=r"connection\.string"):
        refuse_clear_secrets("c", {"connection.string": "hush"}, {"connection.string"})


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_the_committed_ones_are_whole_and_hold_no_secret(path) -> None:
    config = normal(json.loads(path.read_text()), path)
    assert config["connector.class"]
    refuse_clear_secrets(path.stem, config, set())
    # exactly what was committed is read: every reader of a transactional topic, and no guess after an error
    assert config.get("consumer.override.isolation.level", "read_committed") == "read_committed"
    assert config.get("errors.tolerance", "none") == "none"
