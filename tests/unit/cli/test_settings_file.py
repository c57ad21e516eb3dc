"""Reading airflow_settings.yaml: exact, strict, and silent about secrets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tallyclerk.cli.settings_file import ConnectionSetting, PoolSetting, Settings, VariableSetting, read_settings
from tallyclerk.exceptions import SpecError, SpecErrors

Write = Callable[[str], Path]
SECRET = "p@ss\"w'0rd: #%"


def findings(path: Path, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        read_settings(path, environment or {})
    assert all(finding.startswith(f"{path}: ") for finding in caught.value.findings)
    return [finding.removeprefix(f"{path}: ") for finding in caught.value.findings]


def test_a_whole_file_is_read(settings_file: Write) -> None:
    path = settings_file("""
airflow:
  connections:
    - conn_id: shop_db
      conn_type: postgres
      conn_host: ${HOST:-127.0.0.1}
      conn_schema: shop
      conn_login: clerk
      conn_password: ${PASSWORD}
      conn_port: ${PORT}
      conn_extra: {sslmode: disable, timeout: 5, strict: true, nested: {token: "${PASSWORD}"}}
    - conn_id: by_uri
      conn_uri: http://${HOST:-localhost}:80
      conn_extra: '{"token": "${PASSWORD}"}'
  pools:
    - {pool_name: cassandra, pool_slot: 2, pool_description: writers}
  variables:
    - {variable_name: answer, variable_value: 42}
    - {variable_name: days, variable_value: [1, "${PORT}"]}
""")
    assert read_settings(path, {"PASSWORD": SECRET, "PORT": "5432"}) == Settings(
        connections=(
            ConnectionSetting(
                "shop_db", "postgres", "127.0.0.1", "shop", "clerk", SECRET, 5432,
                extra={"sslmode": "disable", "timeout": 5, "strict": True, "nested": {"token": SECRET}},
            ),
            ConnectionSetting("by_uri", uri="http://localhost:80", extra={"token": SECRET}),
        ),
        pools=(PoolSetting("cassandra", 2, "writers"),),
        variables=(VariableSetting("answer", "42"), VariableSetting("days", '[1, "5432"]')),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["0123", "1e5", "yes", "1_000", "2026-01-02", "0x1F", "12:30:45"])
def test_text_stays_as_written_when_yaml_sees_a_number(settings_file: Write, text: str) -> None:
    path = settings_file(f"airflow: {{variables: [{{variable_name: v, variable_value: {text}}}]}}")
    assert read_settings(path, {}).variables == (VariableSetting("v", text),)


def test_an_empty_template_is_no_error(settings_file: Write) -> None:
    path = settings_file("""
airflow:
  connections:
    - conn_id:
      conn_type:
      conn_extra: {}
  pools:
    - pool_name:
      pool_slot:
  variables:
""")
    assert read_settings(path, {}) == Settings()


def test_all_findings_come_at_once(settings_file: Write) -> None:
    path = settings_file("""
airflow:
  conections: []
  connections:
    - {conn_id: a b, conn_typ: http, conn_port: 99999}
    - {conn_id: dup, conn_type: http, conn_password: "${NOPE}", conn_extra: '{"a": }'}
    - {conn_id: dup, conn_uri: "http://h", conn_host: h}
    - oops
  pools:
    - {pool_name: p, pool_slot: two}
    - {pool_slot: 1}
  variables: {a: 1}
""")
    found = findings(path)
    expected = [
        "airflow.conections: unknown key; did you mean 'connections'?",
        "airflow.connections[0].conn_typ: unknown key; did you mean 'conn_type'?",
        "airflow.connections[0] (a b).conn_id: may hold only",
        "airflow.connections[0] (a b).conn_type: is required",
        "airflow.connections[0] (a b).conn_port: must be a whole number from 1 to 65535",
        "airflow.connections[1] (dup).conn_password: the environment variable NOPE is not set: export it",
        "airflow.connections[1] (dup).conn_extra: is not JSON (line 1, column 7)",
        "airflow.connections[2] (dup).conn_uri: cannot stand beside conn_host",
        "airflow.connections[2] (dup): is already defined at airflow.connections[1]",
        "airflow.connections[3]: must be a mapping",
        "airflow.pools[0] (p).pool_slot: must be a whole number",
        "airflow.pools[1].pool_name: is required",
        "airflow.variables: must be a list",
    ]
    assert len(found) == len(expected)
    for finding, start in zip(found, expected, strict=True):
        assert finding.startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        f"airflow:\n  connections:\n    - {{conn_id: c, conn_type: t, conn_port: {SECRET!r}}}",
        f"airflow:\n  connections:\n    - {{conn_id: c, conn_extra: {SECRET!r}}}",
        "airflow:\n  connections:\n    - {conn_id: c, conn_uri: hunter2hunter2}",
        "airflow:\n  x: [hunter2hunter2",
        'airflow:\n  password: "hunter2hunter2',
        "airflow:\n  a: hunter2hunter2\n  a: hunter2hunter2",
        "- hunter2hunter2",
        "airflow: hunter2hunter2",
        "airflow: {pools: hunter2hunter2, variables: [{variable_name: v, variable_value: '${hunter2 hunter2}'}]}",
        "airflow: 2026-02-30 #hunter2hunter2",
    ],
)
def test_no_value_is_in_a_message(settings_file: Write, text: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_settings(settings_file(text), {})
    assert "hunter2" not in str(caught.value)
    assert SECRET not in str(caught.value)


def test_no_secret_is_in_the_settings_representation(settings_file: Write) -> None:
    path = settings_file(
        "airflow: {connections: [{conn_id: c, conn_type: t, conn_password: hunter2, conn_extra: {t: hunter2}},"
        " {conn_id: u, conn_uri: 't://hunter2@h'}], variables: [{variable_name: v, variable_value: hunter2}]}"
    )
    assert "hunter2" not in repr(read_settings(path, {}))


def test_a_key_written_twice_is_refused(settings_file: Write) -> None:
    with pytest.raises(SpecError, match=r"line 1, column .*'pools' is twice"):
        read_settings(settings_file("airflow: {pools: [], pools: []}"), {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such file"):
        read_settings(tmp_path / "none.yaml", {})
