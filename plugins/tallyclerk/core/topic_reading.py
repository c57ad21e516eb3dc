"""How a load reads a topic: what its rejects keep, so that a corrected message is written as all others are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

READING_KEY = "reading"
"""In ``Receipt.details`` of a stream's loads: :meth:`TopicReading.as_dict`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicReading:
    """:param contract: its path. :param value_format: ``avro`` or ``json``. :param change_events: events instead of rows."""

    contract: str
    value_format: str
    change_events: bool
    kafka_conn_id: str
    registry_conn_id: str
    commits_topic: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Self | None:
        """What a receipt's details tell; None where they tell nothing."""
        facts = details.get(READING_KEY)
        return None if facts is None else cls(**facts)
