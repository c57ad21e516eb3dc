"""What stands in quarantine as the page shows it: so that people can read it, and with what a correction has to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from tallyclerk.core.topic_reading import TopicReading
from tallyclerk.exceptions import ServiceUnavailableError, SpecError
from tallyclerk.hooks.connections import connections
from tallyclerk.hooks.lake import lake_root
from tallyclerk.sinks.lake_table import on_day, rows_of
from tallyclerk.sinks.message_corrections import newest_outcomes
from tallyclerk.sinks.quarantined_messages import SCHEME, QuarantinedMessage, readings_of
from tallyclerk.sources.kafka_rejects import RAW_MARK
from tallyclerk.transfers.message_replay import MessageTexts
from tallyclerk.ui.services import log_of

Row = dict[str, Any]
_FILES = "file://"
_readings: dict[str, TopicReading | None] = {}
"""By load: how it read its topic never changes."""


@dataclass(frozen=True, slots=True)
class ShownRecord:
    """A finding, and what the page says beside it.

    :param finding: as :func:`~tallyclerk.ui.quarantine.findings` gives it.
    :param text: the record; of a message JSON, as far as it can be read as such.
    :param source: as a correction names it: the file's name, or ``topic/partition``.
    :param day: with which a replay is asked for.
    :param decided: what became of a message; "" while it is open. A file's mended record is in quarantine no more.
    :param can_be_mended: here. What a writer or a window's load rejected is mended where it came from.
    """

    finding: Row
    text: str
    source: str
    day: str
    decided: str = ""
    can_be_mended: bool = True

    @property
    def draft(self) -> str:
        """With what a correction begins: nothing, where all there is are bytes."""
        return "" if self.text.startswith(RAW_MARK) else self.text


def shown_records(name: str, rows: Sequence[Row]) -> list[ShownRecord]:
    """:param name: of the quarantine. :param rows: some of its findings.

    :raises ServiceUnavailableError: the lake is away.
    """
    if name.endswith(".stream"):
        return _of_stream(name, rows)
    return [
        ShownRecord(
            row, row["raw_text"] or "", row["source"].rpartition("/")[2], row["window"],
            can_be_mended=row["source"].startswith(_FILES),
        )
        for row in rows
    ]  # fmt: skip


def _of_stream(name: str, rows: Sequence[Row]) -> list[ShownRecord]:
    readings, decided = _readings_of(name, rows), newest_outcomes(rows, _corrections(name, rows))
    texts, shown = MessageTexts(), []
    for row, decision in zip(rows, decided, strict=True):
        reading = readings.get(row["load_id"])
        message = QuarantinedMessage(
            row["dataset"], row["source"], row["record_number"], row["raw_text"], row["reason"], reading
        )  # fmt: skip
        is_message = message.source.startswith(SCHEME)
        shown.append(
            ShownRecord(
                row,
                _text(message, texts) if is_message else message.raw_text or "",
                message.partition,
                row["on"].isoformat(),
                decided=decision or "",
                can_be_mended=is_message and reading is not None and decision is None,
            )
        )
    return shown


def _text(message: QuarantinedMessage, texts: MessageTexts) -> str:
    try:
        with connections():
            return texts.text_of(message) or ""
    except (ServiceUnavailableError, SpecError):
        return message.raw_text or ""  # the registry is away, or the contract: its bytes are still there


def _readings_of(name: str, rows: Sequence[Row]) -> dict[str, TopicReading | None]:
    """Of the messages' loads. A row is seen after its commit: a load that the log does not know now it never will."""
    loads = {row["load_id"] for row in rows if row["source"].startswith(SCHEME)}
    if unknown := loads - _readings.keys():
        log = log_of(f"{lake_root()}/data/quarantine/{name}")
        _readings.update({**dict.fromkeys(unknown), **(log.look(lambda: readings_of(log.uri)) or {})})
    return _readings


def _corrections(name: str, rows: Sequence[Row]) -> list[Row]:
    if not rows:
        return []
    log, days = log_of(f"{lake_root()}/data/corrections/{name}"), {row["on"] for row in rows}
    return log.look(lambda: rows_of(log.uri, reduce(or_, map(on_day, days)))) or []
