"""A REST API from an ``http`` connection."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.connections import refuse_unknown_extras

if TYPE_CHECKING:
    from tallyclerk.sources.rest_client import RestClient, RetryBudget

_EXTRA_KEYS = ("headers", "verify", "plain_http")


class RestApiHook(BaseHook):
    """An API behind a bearer key.

    Read from the connection: ``host`` (a name, or a whole URL with a path), ``port``, ``schema`` (``https`` unless said
    otherwise, ``http`` for loopback), ``password`` (the key), and of the extra ``headers`` (more of them), ``verify`` (the
    file of a certificate authority) and ``plain_http`` (true: the key may travel unencrypted, on a network where nobody else is).

    :param http_conn_id: the connection.
    """

    conn_name_attr = "http_conn_id"
    default_conn_name = "http_default"
    conn_type = "http"
    hook_name = "HTTP"

    def __init__(self, http_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.http_conn_id = http_conn_id

    @cached_property
    def base_url(self) -> str:
        """``scheme://host:port`` and the path of the host field, if it has one. It holds no key.

        :raises SpecError: the connection has no host, or the key would travel in the clear.
        """
        connection = self.get_connection(self.http_conn_id)
        host = (connection.host or "").rstrip("/")
        if not host:
            raise SpecError(f"The connection {self.http_conn_id!r} has no host; set the API's.")
        scheme, found, rest = host.rpartition("://")
        is_local = rest.partition("/")[0].partition(":")[0] in ("127.0.0.1", "localhost")
        scheme = scheme if found else connection.schema or ("http" if is_local else "https")
        if (
            scheme == "http"
            and connection.password
            and not is_local
            and not self._is_plain_allowed(connection.extra_dejson)
        ):
            raise SpecError(
                f"The connection {self.http_conn_id!r} would send its key to {rest} in the clear; set its schema to https, "
                'or say in the extra that nobody else is on that network: {"plain_http": true}.'
            )
        name, slash, path = rest.partition("/")
        return f"{scheme}://{name}{f':{connection.port}' if connection.port else ''}{slash}{path}"

    def _is_plain_allowed(self, extra: dict[str, Any]) -> bool:
        # a settings file that takes it from a variable may give text
        return str(extra.get("plain_http", False)).lower() == "true"

    def client(self, *, requests_per_second: float = 0.0, budget: RetryBudget | None = None) -> RestClient:
        """A client of the API, not yet open.

        :param requests_per_second: pace; 0 for none.
        :raises SpecError: as :attr:`base_url`, or an extra that is not known.
        """
        from tallyclerk.sources.rest_client import RestClient, RetryBudget

        connection = self.get_connection(self.http_conn_id)
        extra: dict[str, Any] = connection.extra_dejson
        refuse_unknown_extras(connection, _EXTRA_KEYS)
        return RestClient(
            base_url=self.base_url,
            key=connection.password or "",
            headers={str(name): str(value) for name, value in dict(extra.get("headers") or {}).items()},
            requests_per_second=requests_per_second,
            budget=budget or RetryBudget(),
            verify=extra.get("verify") or True,
        )
