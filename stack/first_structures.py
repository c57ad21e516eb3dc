"""What must be there before the first load, made once the services are up. Each step can be repeated: the state stays the same.

On one machine the supervisor takes these steps as a service comes up; in containers a one-shot service takes each.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from stack import processes, security
from stack.errors import StackError
from stack.services import airflow, hdfs, kafka, postgres, registry
from stack.settings import Settings
from stack.shell import shell_environment

if TYPE_CHECKING:
    from cassandra.cluster import Cluster, Session

_LIMIT_SECONDS = 300.0


def _databases(settings: Settings) -> None:
    postgres.make_databases(settings)
    postgres.ensure_database(settings, "registry", "REGISTRY_DB_PASSWORD")


def _folders(settings: Settings) -> None:
    if not processes.wait_until(lambda: hdfs.is_usable(settings), _LIMIT_SECONDS, poll_seconds=1):
        raise StackError(
            f"HDFS at {settings.address('HDFS')} could not be used for {_LIMIT_SECONDS:.0f} s: see its log"
        )
    hdfs.make_folders(settings)


def _airflow(settings: Settings) -> None:
    airflow.migrate(settings)
    airflow.load_airflow_settings(settings)


def _keyspace(settings: Settings) -> None:
    """The keyspace and the table of each contract that has one; before them, with TLS on, the login that all of ours use."""
    from tallyclerk.contracts import load_contract
    from tallyclerk.sinks.cassandra_table import TargetTable, create_keyspace_cql

    if security.tls_folder(settings):
        _ensure_role(settings)
    replication = {"class": "SimpleStrategy", "replication_factor": settings.option("CASSANDRA_REPLICATION")}
    contracts = map(load_contract, sorted((settings.root / "include" / "contracts").glob("*.odcs.yaml")))
    tables = [TargetTable.from_contract(contract) for contract in contracts if contract.cassandra]
    with _cluster(settings, security.CASSANDRA_USER, settings.secret("CASSANDRA_PASSWORD")) as cluster:
        session = _session(cluster)
        for keyspace in sorted({table.keyspace for table in tables}):
            session.execute(create_keyspace_cql(keyspace, replication))
        for table in tables:
            for statement in (table.create_cql, *table.index_cqls):
                session.execute(statement)


def _ensure_role(settings: Settings) -> None:
    """Our login, a superuser; the one that Cassandra begins with, whose password everybody knows, may then do nothing more."""
    from cassandra import AuthenticationFailed
    from cassandra.cluster import NoHostAvailable

    def as_user(user: str, password: str, statements: Sequence[str]) -> bool:
        try:
            with _cluster(settings, user, password) as cluster:
                session = _session(cluster)
                for statement in statements:
                    session.execute(statement)
        except NoHostAvailable as error:
            if any(isinstance(each, AuthenticationFailed) for each in error.errors.values()):
                return False
            raise
        return True

    user, password = security.CASSANDRA_USER, settings.secret("CASSANDRA_PASSWORD")
    close = ["ALTER ROLE cassandra WITH SUPERUSER = false AND LOGIN = false"]
    if as_user(user, password, close):
        return
    # a role's statement takes no bound value
    quoted = password.replace("'", "''")
    create = f"CREATE ROLE IF NOT EXISTS {user} WITH SUPERUSER = true AND LOGIN = true AND PASSWORD = '{quoted}'"
    if not as_user("cassandra", "cassandra", [create]) or not as_user(user, password, close):
        raise StackError(
            f"Cassandra refuses the login {user}: TALLYCLERK_CASSANDRA_PASSWORD is not the password with which its role was made; "
            "bring back the former one, or alter the role in cqlsh"
        )


def _cluster(settings: Settings, user: str, password: str) -> Cluster:
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import Cluster

    context = security.client_context(settings)
    return Cluster(
        [settings.host("CASSANDRA")],
        port=settings.port("CASSANDRA"),
        auth_provider=PlainTextAuthProvider(user, password) if context else None,
        ssl_context=context,
        protocol_version=5,
        connect_timeout=60,
    )


def _session(cluster: Cluster) -> Session:
    session = cluster.connect()
    session.default_timeout = 60
    return session


def _shop(settings: Settings) -> None:
    """The demo's customers and its nightly files."""
    command = [str(settings.root / ".venv" / "bin" / "python"), "-m", "include.shop", "seed"]
    environment = {**processes.base_environment(), **shell_environment(settings)}
    done = subprocess.run(command, env=environment, cwd=settings.root, check=False)
    if done.returncode:
        raise StackError("seeding the shop failed; its last lines say why")


STEPS: Mapping[str, Callable[[Settings], None]] = {
    "databases": _databases,
    "folders": _folders,
    "topics": kafka.make_topics,
    "registry": registry.require_compatibility,
    "keyspace": _keyspace,
    "airflow": _airflow,
    "shop": _shop,
}
"""Each step by the name under which `python -m stack init` knows it."""
