"""A Cassandra session from a connection."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from tallyclerk.exceptions import SpecError
from tallyclerk.hooks.connections import refuse_unknown_extras
from tallyclerk.sinks.cassandra_client import Backoff, retrying

if TYPE_CHECKING:
    from cassandra.cluster import Cluster, ExecutionProfile, Session

DEFAULT_PORT = 9042
_SSL_KEYS = ("ca_certs", "certfile", "keyfile", "check_hostname")
_EXTRA_KEYS = ("ssl_options", "local_dc", "consistency", "request_timeout_seconds", "load_balancing_policy",
               "load_balancing_policy_args", "cql_version", "protocol_version")  # fmt: skip


class CassandraClusterHook(BaseHook):
    """Sessions for loading: token aware, reconnecting each second, the server's protocol pinned to v5 (Cassandra 4+).

    It shares its connection type with the stock hook, which has neither idempotent execution profiles nor a reconnection
    policy. Read from the connection: ``host`` (comma-separated), ``port``, ``login``, ``password``, ``schema`` (a keyspace
    for callers that ask for it) and, of the extra:

    * ``local_dc``: data centre to talk to (also ``load_balancing_policy_args.local_dc``); without it, that of the first host;
    * ``consistency``: name of the level, default ``LOCAL_QUORUM``;
    * ``request_timeout_seconds``: default 20, longer than the server's own ``write_request_timeout``;
    * ``ssl_options``: ``ca_certs``, ``certfile``, ``keyfile``, ``check_hostname`` (true unless said otherwise).

    The session is opened at first use, waiting for a node that is away as long as ``backoff`` says. Use it as a context
    manager, or call :meth:`close`.
    """

    conn_name_attr = "cassandra_conn_id"
    default_conn_name = "cassandra_default"
    conn_type = "cassandra"
    hook_name = "Cassandra"

    def __init__(self, cassandra_conn_id: str = default_conn_name, *, backoff: Backoff | None = None) -> None:
        super().__init__()
        self.cassandra_conn_id = cassandra_conn_id
        self.backoff = backoff or Backoff()

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        return {
            "hidden_fields": [],
            "relabeling": {"host": "Hosts", "schema": "Keyspace"},
            "placeholders": {"host": "10.0.0.1,10.0.0.2", "port": "9042", "extra": '{"local_dc": "datacenter1"}'},
        }

    @cached_property
    def _connection(self) -> Any:
        connection = self.get_connection(self.cassandra_conn_id)
        if not self._hosts_of(connection):
            raise SpecError(f"The connection {self.cassandra_conn_id!r} has no host; set a comma-separated list.")
        refuse_unknown_extras(connection, _EXTRA_KEYS)
        return connection

    @property
    def hosts(self) -> list[str]:
        return self._hosts_of(self._connection)

    @property
    def port(self) -> int:
        return int(self._connection.port or DEFAULT_PORT)

    @property
    def address(self) -> str:
        """``host,host:port``, for messages and receipts."""
        return f"{','.join(self.hosts)}:{self.port}"

    @property
    def keyspace(self) -> str | None:
        return self._connection.schema or None

    @cached_property
    def session(self) -> Session:
        """Open session, without a keyspace (statements name theirs).

        :raises ServiceUnavailableError: no node answered in time.
        :raises CassandraRefusedError: wrong login or password.
        """
        return retrying(self._connect, backoff=self.backoff, address=self.address, what="connect to Cassandra")

    def close(self) -> None:
        """Close session and cluster; statements on the way fail. May be called twice, and from another thread."""
        session = self.__dict__.pop("session", None)
        if session is not None:
            session.cluster.shutdown()

    def __enter__(self) -> CassandraClusterHook:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> Session:
        cluster = self._cluster()
        try:
            return cluster.connect()
        except BaseException:
            cluster.shutdown()
            raise

    def _cluster(self) -> Cluster:
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster
        from cassandra.policies import ConstantReconnectionPolicy

        connection, extra = self._connection, self._connection.extra_dejson
        login = (
            PlainTextAuthProvider(username=connection.login, password=connection.password) if connection.login else None
        )
        return Cluster(
            contact_points=self.hosts,
            port=self.port,
            auth_provider=login,
            ssl_context=self._ssl_context(extra["ssl_options"]) if extra.get("ssl_options") else None,
            execution_profiles={EXEC_PROFILE_DEFAULT: self._profile(extra)},
            reconnection_policy=ConstantReconnectionPolicy(1, max_attempts=None),
            protocol_version=int(extra.get("protocol_version", 5)),
            connect_timeout=10,
        )

    def _profile(self, extra: dict[str, Any]) -> ExecutionProfile:
        from cassandra import ConsistencyLevel
        from cassandra.cluster import ExecutionProfile
        from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

        local_dc = extra.get("local_dc") or extra.get("load_balancing_policy_args", {}).get("local_dc") or ""
        name = str(extra.get("consistency", "LOCAL_QUORUM")).upper()
        if name not in ConsistencyLevel.name_to_value:
            raise SpecError(
                f"The connection {self.cassandra_conn_id!r} asks for consistency {name!r}. "
                f"Known: {', '.join(ConsistencyLevel.name_to_value)}."
            )
        return ExecutionProfile(
            load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(local_dc=local_dc)),
            consistency_level=ConsistencyLevel.name_to_value[name],
            request_timeout=float(extra.get("request_timeout_seconds", 20)),
        )

    def _ssl_context(self, options: dict[str, Any]) -> Any:
        import ssl

        unknown = sorted(set(options) - set(_SSL_KEYS))
        if unknown:
            raise SpecError(
                f"The connection {self.cassandra_conn_id!r} has unknown ssl_options: {', '.join(unknown)}. "
                f"Known: {', '.join(_SSL_KEYS)}."
            )
        context = ssl.create_default_context(cafile=options.get("ca_certs"))
        context.check_hostname = bool(options.get("check_hostname", True))
        if options.get("certfile"):
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
        return context

    @staticmethod
    def _hosts_of(connection: Any) -> list[str]:
        return [host.strip() for host in (connection.host or "").split(",") if host.strip()]
