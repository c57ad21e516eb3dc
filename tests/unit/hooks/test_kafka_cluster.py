"""An Airflow connection as librdkafka's settings: known ones, safe ones, and no secret in sight."""

import json
from pathlib import Path

import certifi
import pytest

from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.kafka_cluster import KafkaClusterHook

SECRET = "p@ss w0rd"


def hook(monkeypatch: pytest.MonkeyPatch, extra: dict[str, object] | None = None, **facts: object) -> KafkaClusterHook:
    monkeypatch.setenv("AIRFLOW_CONN_BROKER", json.dumps({"conn_type": "kafka", "extra": extra or {}, **facts}))
    return KafkaClusterHook("broker")


def test_settings_reach_the_client_when_they_stand_in_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = hook(monkeypatch, {"bootstrap.servers": "a:1,b:2", "socket.timeout.ms": 5000, "client.id": "me"})
    assert found.client_config == {"bootstrap.servers": "a:1,b:2", "socket.timeout.ms": 5000, "client.id": "me"}
    assert found.bootstrap == "a:1,b:2"


def test_host_and_port_are_the_bootstrap_when_the_extra_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook(monkeypatch, host="a, b:2", port=9092).bootstrap == "a:9092,b:2"


def test_two_different_addresses_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match=r"bootstrap\.servers.*keep one"):
        _ = hook(monkeypatch, {"bootstrap.servers": "a:1"}, host="b", port=1).client_config


def test_settings_of_the_stock_operators_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "bootstrap.servers": "a:1",
        "group.id": "mine",
        "auto.offset.reset": "latest",
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "acks": -1,
    }
    assert hook(monkeypatch, extra).client_config == {"bootstrap.servers": "a:1"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("isolation.level", "read_uncommitted"),
        ("acks", 1),
        ("enable.idempotence", False),
        ("enable.auto.commit", True),
        ("transactional.id", "shared"),
        ("plugin.library.paths", "/tmp/x.so"),
        ("error_cb", "os.system"),
        ("oauth_cb", "os.system"),
        ("enable.ssl.certificate.verification", "false"),
        ("ssl.endpoint.identification.algorithm", "none"),
    ],
)
def test_unsafe_settings_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    with pytest.raises(SpecError, match=name.replace(".", r"\.")):
        _ = hook(monkeypatch, {"bootstrap.servers": "a:1", name: value}).client_config


def test_every_unsafe_setting_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError, match=r"acks.*transactional\.id.*no broker"):
        _ = hook(monkeypatch, {"acks": 0, "transactional.id": "x"}).client_config


@pytest.mark.parametrize(("name", "value"), [("bootstrap.server", "a:1"), ("socket.timeout.ms", "soon")])
def test_a_setting_unknown_to_librdkafka_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SpecError, match=name.replace(".", r"\.")):
        _ = hook(monkeypatch, {"bootstrap.servers": "a:1", name: value}).client_config


def test_no_secret_is_in_the_representation(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"bootstrap.servers": "a:1", "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
    config = hook(monkeypatch, extra, login="clerk", password=SECRET).client_config
    assert (config["sasl.username"], config["sasl.password"]) == ("clerk", SECRET)
    assert SECRET not in f"{config!r} {config}"
    assert "a:1" in repr(config)


def test_a_java_client_is_told_how_to_reach_the_brokers_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {
        "bootstrap.servers": "a:1",
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "PLAIN",
        "ssl.ca.location": certifi.where(),
        "socket.timeout.ms": 5000,
    }
    found = hook(monkeypatch, extra, login="me", password=SECRET).java_security
    assert found == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": certifi.where(),
    }


def test_a_java_client_is_told_nothing_when_the_connection_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hook(monkeypatch, {"bootstrap.servers": "a:1"}).java_security == {}


def test_a_certificate_of_this_machine_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"bootstrap.servers": "a:1", "security.protocol": "ssl", "ssl.ca.pem": Path(certifi.where()).read_text()}
    with pytest.raises(SpecError, match=r"ssl\.ca\.pem belongs to this machine.*ssl\.ca\.location"):
        _ = hook(monkeypatch, extra).java_security
