"""A schema registry from an ``http`` connection."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from tallyclerk.hooks.connections import http_address

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

_EXTRA_KEYS = ("path", "ssl.ca.location")


class SchemaRegistryHook(BaseHook):
    """A registry that speaks Confluent's API: Confluent's own, or Apicurio's below ``/apis/ccompat/v7``.

    Read from the connection: ``host``, ``port``, ``schema`` (``http`` unless said otherwise), ``login`` and ``password``,
    and of the extra ``path`` (of the API) and ``ssl.ca.location`` (the file of a certificate authority).

    :param registry_conn_id: the connection.
    """

    conn_name_attr = "registry_conn_id"
    default_conn_name = "schema_registry_default"
    conn_type = "http"
    hook_name = "HTTP"

    def __init__(self, registry_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.registry_conn_id = registry_conn_id

    @cached_property
    def url(self) -> str:
        """E.g. ``http://127.0.0.1:8181/apis/ccompat/v7``; it holds no secret.

        :raises SpecError: the connection has no host, or an extra that is not known.
        """
        connection = self.get_connection(self.registry_conn_id)
        address = http_address(connection, _EXTRA_KEYS, whose="the registry's")
        path = str(connection.extra_dejson.get("path", "")).strip("/")
        return f"{address}/{path}".rstrip("/")

    @cached_property
    def auth(self) -> tuple[str, str] | None:
        """Login and password, None when the connection has no login."""
        connection = self.get_connection(self.registry_conn_id)
        return (connection.login, connection.password or "") if connection.login else None

    @cached_property
    def ca_file(self) -> str | None:
        """The file of the certificate authority that signed the registry's certificate, None for the machine's own ones."""
        return self.get_connection(self.registry_conn_id).extra_dejson.get("ssl.ca.location")

    @cached_property
    def client(self) -> SchemaRegistryClient:
        """Confluent's client of the registry."""
        from confluent_kafka.schema_registry import SchemaRegistryClient

        settings = {"url": self.url}
        if self.auth:
            settings["basic.auth.user.info"] = ":".join(self.auth)
        if self.ca_file:
            settings["ssl.ca.location"] = self.ca_file
        return SchemaRegistryClient(settings)
