"""An Airflow connection to a relational database, as libpq takes it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from tallyclerk.exceptions import SpecError

if TYPE_CHECKING:
    from airflow.sdk import Connection

LIBPQ_EXTRAS = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "ssl_min_protocol_version",
    "gssencmode",
    "channel_binding",
    "require_auth",
    "target_session_attrs",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "options",
    "application_name",
    "passfile",
    "service",
)
"""Extras that are handed to libpq under their own names (PostgreSQL 17, 32.1.2)."""
IGNORED_EXTRAS = ("cursor", "sqlalchemy_scheme", "sqlalchemy_query")
"""Extras of Airflow's own hook that say nothing about how to connect."""


class RelationalHook(BaseHook):
    """Turns a connection of type ``postgres`` into connection facts; it opens nothing itself.

    :param conn_id: the connection's id.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "postgres_default"
    conn_type = "postgres"
    hook_name = "PostgreSQL (Tallyclerk)"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    @cached_property
    def conninfo(self) -> str:
        """The libpq keyword string, password included: never log it.

        :raises SpecError: the connection is of another type, or has an extra that is neither known nor harmless. A
            mistyped ``sslmode`` must not end in a connection without TLS.
        """
        from psycopg.conninfo import make_conninfo

        connection: Connection = self.get_connection(self.conn_id)
        if connection.conn_type not in ("postgres", "postgresql"):
            raise SpecError(f"Connection {self.conn_id} is of type {connection.conn_type!r}; a postgres one is needed.")
        extras = connection.extra_dejson
        unknown = sorted(set(extras) - set(LIBPQ_EXTRAS) - set(IGNORED_EXTRAS))
        if unknown:
            raise SpecError(
                f"Connection {self.conn_id} has extras that are not known: {', '.join(unknown)}. Known are "
                f"{', '.join(LIBPQ_EXTRAS)}."
            )
        facts = {
            "host": connection.host,
            "port": connection.port,
            "user": connection.login,
            "password": connection.password,
            "dbname": connection.schema,
            **{name: extras.get(name) for name in LIBPQ_EXTRAS},
        }
        return make_conninfo("", **{name: value for name, value in facts.items() if value not in (None, "")})
