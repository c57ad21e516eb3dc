"""Questions to a service that need no client library. None of them raises when the service is away."""

from __future__ import annotations

import socket
import struct
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


def has_kafka_broker(port: int) -> bool:
    """Whether a Kafka broker serves clients: it answers Metadata v4 (API key 3, no topics) with at least one broker.

    A broker that is still catching up, or fenced by its controller, is not among those it names.
    Source: Kafka protocol guide, Metadata API.
    """
    # api key, version, correlation id, no client id; no topics, no automatic creation
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection((LOOPBACK, port), timeout=_TIMEOUT_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            answer = connection.recv(16)  # size, correlation id, throttle time, number of brokers
    except OSError:
        return False
    return len(answer) == 16 and struct.unpack(">iiii", answer)[3] >= 1
