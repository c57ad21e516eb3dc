"""A Kafka cluster from a connection: what every client of it is configured with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from airflow.sdk import BaseHook

from tallyclerk.exceptions import SpecError

_BOOTSTRAP = "bootstrap.servers"
_DECIDED: Mapping[str, tuple[str, ...]] = {
    "isolation.level": ("read_committed",),
    "acks": ("all", "-1"),
    "request.required.acks": ("all", "-1"),
    "enable.idempotence": ("true",),
    "enable.auto.commit": ("false",),
}
"""What sinks and sources decide themselves, with the values a connection may repeat: others would lose or double messages."""
_LEFT_OUT = ("group.id", "auto.offset.reset")
"""Settings of Airflow's own operators, which share the connection; a load names its group and its offsets itself."""
_REFUSED: Mapping[str, str] = {
    "transactional.id": "it belongs to a dataset: two loads that share one would end each other's transactions",
    "plugin.library.paths": "it loads native code from a text field",
    **dict.fromkeys(
        ("error_cb", "throttle_cb", "stats_cb", "log_cb", "oauth_cb", "on_commit", "logger"),
        "a connection cannot hold code",
    ),
}
_TLS_CHECKS: Mapping[str, tuple[str, ...]] = {
    "enable.ssl.certificate.verification": ("true",),
    "ssl.endpoint.identification.algorithm": ("https",),
}
_JAVA_NAMES: Mapping[str, str] = {
    "security.protocol": "security.protocol",
    "sasl.mechanism": "sasl.mechanism",
    "sasl.mechanisms": "sasl.mechanism",
    "ssl.ca.location": "ssl.truststore.location",
}
"""What Java's client calls the settings of librdkafka that say how to reach the brokers safely."""
_OF_THIS_MACHINE = ("ssl.key", "ssl.certificate", "ssl.ca.pem")
_SECRET_MARKS = ("password", "secret", "token", "jaas", "ssl.key", "oauthbearer.config", "sasl.username")


class ClientConfig(dict[str, Any]):
    """A librdkafka configuration whose representation shows no secret. A copy (``{**config}``) is a plain dict: do not log it."""

    def __repr__(self) -> str:
        shown = {
            key: "***" if any(mark in key.lower() for mark in _SECRET_MARKS) else value for key, value in self.items()
        }
        return f"ClientConfig({shown!r})"


class KafkaClusterHook(BaseHook):
    """What a client needs to reach the cluster; it opens nothing itself.

    The connection is the Kafka provider's own: librdkafka settings as JSON in the extra. In addition ``host`` and
    ``port`` stand for ``bootstrap.servers``, ``login`` and ``password`` for ``sasl.username`` and ``sasl.password``.

    Refused are settings that librdkafka does not know, that switch off TLS checks, and that would lose or double messages.

    :param kafka_conn_id: the connection.
    """

    conn_name_attr = "kafka_conn_id"
    default_conn_name = "kafka_default"
    conn_type = "kafka"
    hook_name = "Apache Kafka"

    def __init__(self, kafka_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.kafka_conn_id = kafka_conn_id

    @property
    def bootstrap(self) -> str:
        """``host:port,host:port``, for messages and receipts."""
        return self.client_config[_BOOTSTRAP]

    @cached_property
    def client_config(self) -> ClientConfig:
        """The settings that producers, consumers and admin clients share; each adds its own to a copy.

        :raises SpecError: the connection names no broker, or has a setting that is refused; all findings at once.
        """
        settings = self._settings()
        problems = [problem for name, value in settings.items() if (problem := _problem(name, value))]
        if not settings.get(_BOOTSTRAP):
            problems.append("it names no broker: set bootstrap.servers in the extra, or host and port")
        if problems:
            raise SpecError(f"The connection {self.kafka_conn_id!r} cannot be used: {'; '.join(problems)}.")
        shared = ClientConfig({k: v for k, v in settings.items() if k not in _DECIDED and k not in _LEFT_OUT})
        self._ask_librdkafka(shared)
        return shared

    @property
    def java_security(self) -> dict[str, str]:
        """What a Java client elsewhere needs to reach the brokers as this connection does; empty without TLS and login.

        Its login is not among it (that client's JVM has it, as ``KafkaClient`` in its JAAS file), nor any other secret. The
        authorities' certificates are read on its machine, under the same path.

        :raises SpecError: the connection shows a certificate of its own, or holds the authorities' in its text.
        """
        settings = self.client_config
        if own := sorted(name for name in settings if name.startswith(_OF_THIS_MACHINE)):
            raise SpecError(
                f"The connection {self.kafka_conn_id!r} cannot be handed to a Java client: {', '.join(own)} belongs to this machine. "
                "Let it log in by SASL and give its authorities by ssl.ca.location, or write that client's own settings yourself."
            )
        found = {_JAVA_NAMES[name]: str(value) for name, value in settings.items() if name in _JAVA_NAMES}
        if "security.protocol" in found:
            found["security.protocol"] = found["security.protocol"].upper()
        if "ssl.truststore.location" in found:
            found["ssl.truststore.type"] = "PEM"
        return found

    def _settings(self) -> dict[str, Any]:
        connection = self.get_connection(self.kafka_conn_id)
        settings: dict[str, Any] = dict(connection.extra_dejson)
        facts = {
            _BOOTSTRAP: _addresses(connection.host, connection.port),
            "sasl.username": connection.login,
            "sasl.password": connection.password,
        }
        for name, value in facts.items():
            if value and settings.setdefault(name, value) != value:
                raise SpecError(
                    f"The connection {self.kafka_conn_id!r} gives {name} in its extra and, differently, in its own fields; "
                    "keep one of them."
                )
        return settings

    def _ask_librdkafka(self, config: ClientConfig) -> None:
        """Only librdkafka knows all its settings; making a client checks them, before anything is sent."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        try:
            AdminClient({**config, "log_level": 0})
        except KafkaException as error:
            # its text names the setting and, for a bad value, the value: no secret has values to choose from
            raise SpecError(
                f"The connection {self.kafka_conn_id!r} is not one of librdkafka: {error.args[0].str()}."
            ) from error


def _problem(name: str, value: Any) -> str | None:
    """Why a setting is refused, None when it is not."""
    if name in _REFUSED:
        return f"{name} has no place in a connection: {_REFUSED[name]}"
    allowed = _DECIDED.get(name) or _TLS_CHECKS.get(name)
    if allowed and str(value).lower() not in allowed:
        why = "messages would be lost or doubled" if name in _DECIDED else "anybody could pose as the broker"
        return f"{name}={value} is not safe ({why}); leave it out or set {allowed[0]}"
    return None


def _addresses(host: str | None, port: int | None) -> str | None:
    if not host:
        return None
    hosts = [each.strip() for each in host.split(",") if each.strip()]
    return ",".join(each if ":" in each or not port else f"{each}:{port}" for each in hosts)
