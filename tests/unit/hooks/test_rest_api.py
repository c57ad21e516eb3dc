"""What a connection says about an API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.rest_api import RestApiHook


def hook(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> RestApiHook:
    monkeypatch.setenv("AIRFLOW_CONN_SOME_API", json.dumps({"conn_type": "http", **fields}))
    return RestApiHook("some_api")


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "127.0.0.1", "port": 8070}, "http://127.0.0.1:8070"),
        ({"host": "api.example.com"}, "https://api.example.com"),
        ({"host": "api.example.com", "port": 8443, "schema": "https"}, "https://api.example.com:8443"),
        ({"host": "https://api.example.com/v2/"}, "https://api.example.com/v2"),
        ({"host": "http://api.example.com", "password": None}, "http://api.example.com"),
        (
            {"host": "shop", "schema": "http", "password": "s3cret", "extra": {"plain_http": True}},
            "http://shop",
        ),
    ],
)
def test_the_address_is_put_together_from_the_connection(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], url: str
) -> None:
    assert hook(monkeypatch, **fields).base_url == url


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "has no host"),
        ({"host": "http://api.example.com", "password": "s3cret"}, "in the clear"),
        (
            {"host": "http://shop", "password": "s3cret", "extra": {"plain_http": "false"}},
            "in the clear",
        ),
        ({"host": "127.0.0.1", "extra": {"verfy": "x"}}, "unknown extras: verfy"),
    ],
)
def test_a_connection_is_refused_when_it_is_not_safe_or_not_understood(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message) as refusal:
        hook(monkeypatch, **fields).client()
    assert "s3cret" not in str(refusal.value)


def test_the_key_and_the_headers_are_in_no_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    client = hook(monkeypatch, host="127.0.0.1", password="s3cret", extra={"headers": {"X-Token": "t0ken"}}).client()
    assert client.key == "s3cret"
    assert "s3cret" not in repr(client)
    assert "t0ken" not in repr(client)
