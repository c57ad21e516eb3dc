"""What a person has decided about a rejected record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from tallyclerk.exceptions import SpecErrors


@dataclass(frozen=True, slots=True)
class Correction:
    """One decision about one record of one delivered file. The newest one of a record counts.

    :param source: URI of the file. :param sha256: of the file as delivered, so that it never meets another one.
    :param record_number: counts from 1, as in quarantine.
    :param text: the whole record in the file's dialect, as it ought to have been delivered; None gives the record up: it is
        read, and counted as filtered.
    :param revision: counts the window's corrections from 1.
    """

    source: str
    sha256: str
    record_number: int
    text: str | None
    revision: int = 0

    @property
    def record(self) -> tuple[str, str, int]:
        """Which record: a file is known by name and content, wherever it lies."""
        return self.source.rpartition("/")[2], self.sha256, self.record_number

    @property
    def decides(self) -> tuple[str, str, int, str | None]:
        """What of it changes a load's rows."""
        return (*self.record, self.text)


@dataclass(frozen=True, slots=True)
class AskedCorrection:
    """A correction as a person states it.

    :param source: URI of the file or of the topic's partition, or as much of its end as tells it apart (``sales.csv``,
        ``sales/0``); "" where the record's number says enough.
    :param record_number: as in quarantine: a file's record, from 1, or a message's offset, from 0.
    """

    record_number: int
    text: str | None
    source: str = ""

    def is_of(self, source: str, record_number: int) -> bool:
        """Whether a record in quarantine is meant."""
        is_named = self.source in ("", source) or source.endswith(f"/{self.source}")
        return is_named and record_number == self.record_number

    @classmethod
    def read_all(cls, stated: Sequence[Mapping[str, Any]]) -> list[Self]:
        """From JSON: ``[{"source": "sales.csv", "record_number": 7, "text": "1,2.50"}, ...]``.

        :raises SpecErrors: with every mistake.
        """
        findings, read = [], []
        for place, entry in enumerate(stated, start=1):
            if mistake := _mistake(entry):
                findings.append(f"correction {place}: {mistake}")
            else:
                read.append(cls(int(entry["record_number"]), entry["text"], str(entry.get("source") or "")))
        if findings:
            raise SpecErrors(findings)
        return read


def _mistake(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        return "is no JSON object; write {source, record_number, text}"
    if unknown := set(entry) - {"source", "record_number", "text"}:
        return f"{', '.join(sorted(map(str, unknown)))} is unknown; it has source, record_number and text"
    number = entry.get("record_number")
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        return f"record_number {number!r} is no number from 0 on; take it from `airflow tallyclerk quarantine list`"
    if "text" not in entry:
        return "has no text; give the whole record, or null to give the record up"
    text = entry["text"]
    if text is not None and (not isinstance(text, str) or not text.strip() or "\0" in text):
        return "text is neither a record nor null; null gives the record up"
    return ""
