"""What became of rejected messages: sent again, corrected, or given up. Kept beside the lake's zones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from tallyclerk.core.window import Window
from tallyclerk.sinks.corrections import DecisionTable, corrections_schema
from tallyclerk.sinks.quarantined_messages import QuarantinedMessage, digest_of

if TYPE_CHECKING:
    import pyarrow as pa


@cache
def message_corrections_schema() -> pa.Schema:
    """That of files' corrections: ``record_number`` is the offset, ``sha256`` of the message; and ``sent_as``, where it is now."""
    import pyarrow as pa

    return corrections_schema().append(pa.field("sent_as", pa.string()))


@dataclass(frozen=True, slots=True)
class Replayed:
    """The outcome for one message.

    :param text: the corrected message as JSON; None when it was given up.
    :param sent_as: ``topic/partition:offset`` of the corrected message; "" when it was given up.
    """

    message: QuarantinedMessage
    text: str | None
    sent_as: str = ""

    @property
    def outcome(self) -> tuple[str | None, str]:
        return self.text, self.sent_as


class MessageCorrections(DecisionTable):
    """The outcomes for one quarantine's messages, by the day on which these came; the newest of a message counts."""

    def __init__(self, uri: str, *, dataset: str) -> None:
        super().__init__(uri, dataset=f"{dataset}.corrections", schema=message_corrections_schema())

    def of_day(self, window: Window) -> dict[tuple[str, int, str], tuple[str | None, str]]:
        """(source, offset, SHA-256) → (text, sent_as)."""
        return _newest(self.rows(window))

    def record(self, window: Window, outcomes: Iterable[Replayed], *, by: str, note: str) -> None:
        """Keep what is not kept yet.

        :raises ConcurrentLoadError: others kept committing; retry.
        """
        asked = list(outcomes)

        def fresh(kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
            known, revision = _newest(kept), max((row["revision"] for row in kept), default=0)
            new = [each for each in asked if known.get(record_of(each.message)) != each.outcome]
            return [_row(each, revision + place) for place, each in enumerate(new, start=1)]

        self.add(window, fresh, by=by, note=note)


def record_of(message: QuarantinedMessage) -> tuple[str, int, str]:
    """By what a message is known again."""
    return message.source, message.offset, message.sha256


def newest_outcomes(rejects: Iterable[Mapping[str, Any]], corrections: Iterable[Mapping[str, Any]]) -> list[str | None]:
    """For each rejected message what became of it, for people; None while it is open.

    :param rejects: rows of a quarantine. :param corrections: rows of these tables.
    """
    told = {
        record: f"replayed as {sent_as}" if sent_as else "given up"
        for record, (_, sent_as) in _newest(corrections).items()
    }
    return [told.get((row["source"], row["record_number"], digest_of(row["raw_text"]))) for row in rejects]


def _newest(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, str], tuple[str | None, str]]:
    return {
        (row["source"], row["record_number"], row["sha256"]): (row["text"], row["sent_as"])
        for row in sorted(rows, key=lambda row: row["revision"])
    }


def _row(each: Replayed, revision: int) -> dict[str, Any]:
    message = each.message
    return {
        "dataset": message.dataset, "source": message.source, "sha256": message.sha256,
        "record_number": message.offset, "revision": revision, "text": each.text, "sent_as": each.sent_as,
        "reason": message.reason, "rejected_text": message.raw_text,
    }  # fmt: skip
