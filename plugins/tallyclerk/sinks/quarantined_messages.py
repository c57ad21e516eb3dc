"""Messages that a stream's loads have put into quarantine: which they are, and how their topic is read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tallyclerk.core.topic_reading import TopicReading
from tallyclerk.core.window import Window
from tallyclerk.sinks.lake_table import on_day, receipts_of, rows_of
from tallyclerk.sinks.quarantine import finding_of
from tallyclerk.sources.kafka_rejects import RAW_MARK

SCHEME = "kafka://"
"""With which the sources of messages begin: ``kafka://<broker>/<topic>/<partition>``."""


@dataclass(frozen=True, slots=True)
class QuarantinedMessage:
    """One rejected message.

    :param dataset: the contract's name. :param reason: all that is wrong with it.
    :param reading: how its topic is read; None where it was rejected before loads kept that, or by the writer, which sends
        its rejects to a topic of their own.
    """

    dataset: str
    source: str
    offset: int
    raw_text: str | None
    reason: str
    reading: TopicReading | None

    @property
    def topic(self) -> str:
        return self.source.split("/")[-2]

    @property
    def partition(self) -> str:
        """``topic/partition``."""
        return "/".join(self.source.split("/")[-2:])

    @property
    def name(self) -> str:
        """``topic/partition:offset``."""
        return f"{self.partition}:{self.offset}"

    @property
    def value(self) -> bytes | None:
        return value_of(self.raw_text)

    @property
    def sha256(self) -> str:
        return digest_of(self.raw_text)


def messages_of_day(uri: str, window: Window) -> list[QuarantinedMessage]:
    """The messages in a stream's quarantine that came on a day, by source and offset.

    :param uri: of the quarantine. What a topic's writer rejected stands there too, and is left out: it never was a message.
    """
    rows = [row for row in rows_of(uri, on_day(window.day)) if row["source"].startswith(SCHEME)]
    return list(_messages(rows, readings_of(uri) if rows else {}))


def readings_of(uri: str) -> dict[str, TopicReading | None]:
    """How each load of a stream's quarantine read its topic, by ``load_id``."""
    return {load.load_id: TopicReading.of(load.details) for load in receipts_of(uri)}


def value_of(raw_text: str | None) -> bytes | None:
    """A message's bytes from its text in quarantine; None for a tombstone."""
    if raw_text is None:
        return None
    marked = raw_text.startswith(RAW_MARK)
    return base64.b64decode(raw_text.removeprefix(RAW_MARK)) if marked else raw_text.encode()


def digest_of(raw_text: str | None) -> str:
    """SHA-256 of a message's bytes; by it a message is told from one of the same offset in a topic that was made anew."""
    return hashlib.sha256(value_of(raw_text) or b"").hexdigest()


def _messages(rows: list[dict[str, Any]], readings: dict[str, TopicReading | None]) -> Iterable[QuarantinedMessage]:
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["source"], row["record_number"]), []).append(row)
    for source, offset in sorted(found):
        told = found[source, offset]
        yield QuarantinedMessage(
            told[0]["dataset"], source, offset, told[0]["raw_text"], "; ".join(map(finding_of, told)),
            readings.get(told[0]["load_id"]),
        )  # fmt: skip
