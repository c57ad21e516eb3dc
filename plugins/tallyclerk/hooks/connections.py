"""What hooks read from a connection alike, and where they find it outside a task."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from tallyclerk.exceptions import SpecError

if TYPE_CHECKING:
    import ssl

    from airflow.sdk import Connection


@contextmanager
def connections() -> Iterator[None]:
    """Let hooks read connections from Airflow's secrets backends and database, as its own server components do.

    Outside a task (a command, the page, the metrics) a hook would otherwise see environment variables only.

    :raises SpecError: a connection that is asked for does not exist.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException

    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    try:
        yield
    except AirflowNotFoundException as missing:
        raise SpecError(f"{missing}; run `airflow tallyclerk load-settings`.") from None


def refuse_unknown_extras(connection: Connection, known: Sequence[str]) -> None:
    """:raises SpecError: the extra has a key that is not known: a mistyped one would be without effect, in silence."""
    if unknown := sorted(set(connection.extra_dejson) - set(known)):
        raise SpecError(
            f"The connection {connection.conn_id!r} has unknown extras: {', '.join(unknown)}. Known: {', '.join(known)}."
        )


def http_address(connection: Connection, known: Sequence[str], *, whose: str) -> str:
    """``scheme://host:port`` of a service inside; ``http`` unless the connection says otherwise. It holds no secret.

    :param known: keys of the extra. :param whose: host it is that is missing, for the message.
    :raises SpecError: the connection has no host, or an extra that is not known.
    """
    if not connection.host:
        raise SpecError(f"The connection {connection.conn_id!r} has no host; set {whose}.")
    refuse_unknown_extras(connection, known)
    host = connection.host.rstrip("/")
    address = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    return f"{address}:{connection.port}" if connection.port else address


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """For an ``httpx`` client: whom it trusts.

    :param ca_file: the authorities' certificates; those that ``httpx`` knows when None.
    """
    import ssl

    return ssl.create_default_context(cafile=ca_file) if ca_file else _usual_tls_context()


@cache
def _usual_tls_context() -> ssl.SSLContext:
    """Made once: to read all authorities takes longer than a service takes to answer."""
    import httpx

    return httpx.create_ssl_context(trust_env=False)
