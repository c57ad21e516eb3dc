"""An Airflow connection as a registry's address."""

import json

import pytest

from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.schema_registry import SchemaRegistryHook


def hook(monkeypatch: pytest.MonkeyPatch, **facts: object) -> SchemaRegistryHook:
    monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", json.dumps({"conn_type": "http", **facts}))
    return SchemaRegistryHook("registry")


@pytest.mark.parametrize(
    ("facts", "url"),
    [
        ({"host": "r", "port": 8181, "extra": {"path": "/apis/ccompat/v7"}}, "http://r:8181/apis/ccompat/v7"),
        ({"host": "r", "schema": "https"}, "https://r"),
        ({"host": "https://r/", "port": 1, "extra": {"path": "x/"}}, "https://r:1/x"),
    ],
)
def test_the_url_is_put_together(monkeypatch: pytest.MonkeyPatch, facts: dict, url: str) -> None:
    assert hook(monkeypatch, **facts).url == url


@pytest.mark.parametrize(("facts", "named"), [({}, "no host"), ({"host": "r", "extra": {"paht": "/x"}}, "paht")])
def test_what_does_not_fit_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, facts: dict, named: str) -> None:
    with pytest.raises(SpecError, match=named):
        _ = hook(monkeypatch, **facts).url


def test_the_password_is_not_in_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hook(monkeypatch, host="r", login="clerk", password="s3cret")
    assert found.url == "http://r"
    assert found.auth == ("clerk", "s3cret")
