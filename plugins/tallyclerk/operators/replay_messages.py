"""Corrected messages back to their topics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from tallyclerk.core.correction import AskedCorrection
from tallyclerk.exceptions import SpecErrors
from tallyclerk.operators.replay import ReplayOperator, decider_of
from tallyclerk.transfers.base import window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.sinks.message_corrections import MessageCorrections, Replayed
    from tallyclerk.sinks.quarantined_messages import QuarantinedMessage
    from tallyclerk.transfers.message_replay import MessageReplay

    Stated = list[tuple[QuarantinedMessage, str | None]]
    Known = Mapping[tuple[str, int, str], tuple[str | None, str]]


class ReplayMessagesOperator(ReplayOperator):
    """Send messages that a stream's loads rejected to their topics again, corrected; skipped where none is meant.

    A correction is the message as a JSON object of the contract's columns. All of them are judged by the contract, and encoded
    as the topic's other messages are, before the first is sent. Then each is sent once, with the header
    ``tallyclerk.replay.of``, and the outcome is kept in ``/data/corrections/<dataset>.stream``: the same corrections again send
    nothing. The next load of the topic takes a corrected message as any other. A correction without text gives its message up.

    :param corrections: ``[{"source", "record_number", "text"}, ...]``, or the same as JSON text; ``source`` is the partition
        as in quarantine or ``topic/partition``, ``record_number`` the offset. Those of files are left alone. Templated.
    :param note: why, for those who ask later. Templated.
    :param register: ``never``: the contract's schema must be in the registry, where the topic is in Avro; ``if_compatible``: a
        new one that its rule lets pass is registered.
    :return: ``sent``: rejected → corrected message, each as ``topic/partition:offset``; ``given_up``: how many.
    :raises SpecErrors: a message is not in quarantine, does not fit the contract corrected either, or was sent already with
        another text. Nothing was sent.
    :raises TransientError: Kafka, the registry or the lake is away. What was sent stays, and a retry knows it.
    """

    template_fields: Sequence[str] = (*ReplayOperator.template_fields, "corrections", "note")

    def __init__(
        self, *, corrections: Sequence[Mapping[str, Any]] | str = (), note: str = "", register: str = "never", **kwargs: Any
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.corrections, self.note, self.register = corrections, note, register

    def execute(self, context: Context) -> dict[str, Any]:
        window = window_of(context)
        stated = json.loads(self.corrections) if isinstance(self.corrections, str) else self.corrections
        _, asked = self._by_kind(window, AskedCorrection.read_all(stated or []))
        if not asked:
            raise AirflowSkipException("No correction is of a message.")
        table = self._outcomes()
        known = table.of_day(window)
        _check(asked, known)
        checked = [_replay(group, self.register).check() for group in _groups(asked)]
        by, note = decider_of(context), self.note
        given_up = [replayed for message, text in asked if (replayed := _given_up(message, text))]
        table.record(window, given_up, by=by, note=note)
        sent: dict[str, str] = {}
        for replay in checked:
            told = list(replay.send())
            table.record(window, told, by=by, note=note)
            sent |= {each.message.name: each.sent_as for each in told}
        self.log.info("%d messages are in their topics again, %d are given up", len(sent), len(given_up))
        return {"sent": sent, "given_up": len(given_up)}

    def _outcomes(self) -> MessageCorrections:
        from tallyclerk.sinks.message_corrections import MessageCorrections

        name = f"{self.dataset}.stream"
        return MessageCorrections(self._uri(f"/data/corrections/{name}"), dataset=name)


def _check(asked: Stated, known: Known) -> None:
    """:raises SpecErrors: with every message that cannot be replayed as asked."""
    from tallyclerk.sinks.message_corrections import record_of

    findings = []
    for message, text in asked:
        former, sent_as = known.get(record_of(message), (None, ""))
        if sent_as and former != text:
            findings.append(
                f"{message.name} was replayed already, as {sent_as}; what is in a topic cannot be taken back. Send a newer message "
                "of the same key by its own writer"
            )
        elif text is not None and message.reading is None:
            findings.append(
                f"{message.name}: its load did not keep how the topic is read. Load its range again (`offsets`), or send the message "
                "by its own writer"
            )
    if findings:
        raise SpecErrors(findings)


def _groups(asked: Stated) -> Iterator[list[tuple[QuarantinedMessage, str]]]:
    """Those to be sent, by topic and how it is read."""
    sent = [(message, text) for message, text in asked if text is not None]

    def of(entry: tuple[QuarantinedMessage, str]) -> tuple[str, str]:
        return entry[0].topic, repr(entry[0].reading)

    for _, group in groupby(sorted(sent, key=of), key=of):
        yield list(group)


def _replay(group: list[tuple[QuarantinedMessage, str]], register: str) -> MessageReplay:
    from tallyclerk.transfers.message_replay import MessageReplay

    reading = group[0][0].reading
    assert reading is not None  # _check
    return MessageReplay(
        messages=[message for message, _ in group], texts=[text for _, text in group], reading=reading, register=register
    )  # fmt: skip


def _given_up(message: QuarantinedMessage, text: str | None) -> Replayed | None:
    from tallyclerk.sinks.message_corrections import Replayed

    return None if text is not None else Replayed(message, None)
