"""Questions to a service that need no client library. None of them raises when the service is away."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

_TIMEOUT_SECONDS = 5.0
# proxies of the environment are for the outside, never for loopback
_client = httpx.Client(timeout=_TIMEOUT_SECONDS, trust_env=False)


def get_json(url: str) -> Any:
    """The JSON answer of `url`, None when there is no answer, an error status or no JSON."""
    try:
        answer = _client.get(url)
        return answer.json() if answer.is_success else None
    except (httpx.HTTPError, ValueError):
        return None


def answers(url: str) -> bool:
    """Whether `url` answers with a status of success."""
    try:
        return _client.get(url).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def _connected(host: str, port: int, tls: ssl.SSLContext | None) -> Iterator[socket.socket]:
    with socket.create_connection((host, port), timeout=_TIMEOUT_SECONDS) as connection:
        if tls is None:
            yield connection
        else:
            with tls.wrap_socket(connection, server_hostname=host) as encrypted:
                yield encrypted


def speaks_cql(host: str, port: int, *, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a Cassandra takes CQL clients: it answers OPTIONS (opcode 5) with SUPPORTED (opcode 6).

    Source: CQL binary protocol v4, sections 2 and 4. Needs no credentials.
    """
    try:
        with _connected(host, port, tls) as connection:
            connection.sendall(b"\x04\x00\x00\x00\x05\x00\x00\x00\x00")
            header = connection.recv(9)
    except OSError:
        return False
    return len(header) > 4 and header[4] == 0x06


def has_kafka_broker(host: str, port: int, *, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a Kafka broker serves clients: it answers Metadata v4 (API key 3, no topics) with at least one broker.

    A broker that is still catching up, or fenced by its controller, is not among those it names.
    Source: Kafka protocol guide, Metadata API. With TLS it also asks for a login, which is not shown here: then an answer to
    ApiVersions (API key 18), which needs none, is all that is asked for.
    """
    if tls is not None:
        request = struct.pack(">hhih", 18, 0, 1, -1)
        try:
            with _connected(host, port, tls) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                answer = connection.recv(10)  # size, correlation id, error code
        except OSError:
            return False
        return len(answer) == 10 and struct.unpack(">iih", answer)[2] == 0
    # api key, version, correlation id, no client id; no topics, no automatic creation
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">i?", 0, False)
    try:
        with _connected(host, port, tls) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(16)  # size, correlation id, throttle time, number of brokers
    except OSError:
        return False
    return len(answer) == 16 and struct.unpack(">iiii", answer)[3] >= 1
