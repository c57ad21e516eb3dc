"""Questions to a service that need no client library. None of them raises when the service is away."""

from __future__ import annotations

import socket
from typing import Any

import httpx

from stack.settings import LOOPBACK

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


def speaks_cql(port: int) -> bool:
    """Whether a Cassandra takes CQL clients: it answers OPTIONS (opcode 5) with SUPPORTED (opcode 6).

    Source: CQL binary protocol v4, sections 2 and 4. Needs no credentials.
    """
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_SECONDS) as connection:
            connection.sendall(b"\x04\x00\x00\x00\x05\x00\x00\x00\x00")
            header = connection.recv(9)
    except OSError:
        return False
    return len(header) > 4 and header[4] == 0x06
