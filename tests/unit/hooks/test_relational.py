"""An Airflow connection as libpq's keywords."""

import json

import pytest
from psycopg.conninfo import conninfo_to_dict

from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.relational import RelationalHook


def state(monkeypatch: pytest.MonkeyPatch, **facts: object) -> None:
    stated = {
        "conn_type": "postgres",
        "host": "db",
        "port": 5433,
        "login": "me",
        "password": "a' b\\@",
        "schema": "shop",
    }
    monkeypatch.setenv("AIRFLOW_CONN_SHOP_DB", json.dumps({**stated, **facts}))


def test_every_key_reaches_libpq_when_signs_are_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    state(monkeypatch, extra={"sslmode": "verify-full", "connect_timeout": 3, "cursor": "dictcursor"})
    assert {key: str(value) for key, value in conninfo_to_dict(RelationalHook("shop_db").conninfo).items()} == {
        "host": "db",
        "port": "5433",
        "user": "me",
        "password": "a' b\\@",
        "dbname": "shop",
        "sslmode": "verify-full",
        "connect_timeout": "3",
    }


def test_a_mistyped_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state(monkeypatch, extra={"ssl_mode": "verify-full"})
    with pytest.raises(SpecError, match="ssl_mode"):
        _ = RelationalHook("shop_db").conninfo


def test_another_type_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    state(monkeypatch, conn_type="mysql")
    with pytest.raises(SpecError, match="mysql"):
        _ = RelationalHook("shop_db").conninfo
