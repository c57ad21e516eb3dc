"""Where the lake and the landing folder are, by their connections."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.lake import LakeHook
from tallyclerk.hooks.landing import LandingHook


@pytest.fixture(autouse=True)
def _own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that the hook sets does not outlive the test."""
    monkeypatch.setenv("HADOOP_USER_NAME", "")
    monkeypatch.delenv("HADOOP_USER_NAME")


def connect(monkeypatch: pytest.MonkeyPatch, name: str, **facts: Any) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(facts))


def test_the_lake_is_at_the_rpc_port_and_written_as_the_connections_user(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"rpc_port": 9000, "user": "clerk"}
    connect(monkeypatch, "hdfs_default", conn_type="hdfs", host="namenode", port=9870, login="web", extra=extra)
    hook = LakeHook()
    assert hook.uri("/data/raw/sales") == hook.uri("data/raw/sales") == "hdfs://namenode:9000/data/raw/sales"
    assert hook.uri("file:///elsewhere") == "file:///elsewhere"
    assert os.environ["HADOOP_USER_NAME"] == "clerk"


@pytest.mark.parametrize(("hook", "name"), [(LakeHook, "hdfs_default"), (LandingHook, "fs_landing")])
def test_the_connection_is_named_when_it_says_not_where(
    monkeypatch: pytest.MonkeyPatch, hook: type[LakeHook | LandingHook], name: str
) -> None:
    connect(monkeypatch, name, conn_type="x")
    with pytest.raises(SpecError, match=f"'{name}' has no"):
        _ = hook().root if isinstance(hook(), LakeHook) else hook().path  # type: ignore[union-attr]
