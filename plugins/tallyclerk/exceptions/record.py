"""The data is wrong, and the load refused it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tallyclerk.exceptions.bases import RecordError


class HeaderError(RecordError):
    """A file's header is not the contract's."""

    def __init__(self, *, path: str | Path, expected: Sequence[str], found: Sequence[str]) -> None:
        missing = [name for name in expected if name not in found]
        unknown = [name for name in found if name not in expected]
        if missing or unknown:
            detail = "; ".join(
                part
                for part in (
                    f"missing: {', '.join(missing)}" if missing else "",
                    f"not in the contract: {', '.join(unknown)}" if unknown else "",
                )
                if part
            )
        else:
            detail = "same names in another order"
        super().__init__(
            f"{path}: the header is not the contract's ({detail}). Expected {','.join(expected)!r}, "
            f"found {','.join(found)!r}. Mend the file, or change the contract's properties and its version."
        )


class DamagedFileError(RecordError):
    """A file ends early, cannot be decompressed or is not in the declared encoding."""

    def __init__(self, *, path: str | Path, damage: str) -> None:
        super().__init__(f"{path}: {damage}. Nothing was loaded; ask the sender for the file again.")


class NoInputError(RecordError):
    """A window has no file where the contract expects one."""

    def __init__(self, *, pattern: str, window: str) -> None:
        super().__init__(
            f"No file matches {pattern!r} for window {window}. Wait for the delivery, or pass allow_empty=True "
            "where a window without files is right."
        )


class TooManyRejectsError(RecordError):
    """More records were rejected than the load allows."""

    def __init__(self, *, rejected: int, read: int, limit: str, examples: Sequence[str] = ()) -> None:
        shown = "".join(f"\n  {line}" for line in examples)
        super().__init__(
            f"{rejected:,} of {read:,} records were rejected; {limit}. Nothing was committed. "
            f"Mend the data or raise the limit.{shown}"
        )


class CorrectionsRejectedError(RecordError):
    """What a person has corrected does not fit the contract either."""

    def __init__(self, *, load: str, findings: Sequence[str]) -> None:
        listed = "".join(f"\n  {line}" for line in findings)
        super().__init__(
            f"{load} is loaded, and corrected records of it are rejected still. Correct them again: the newest correction of a "
            f"record counts.{listed}"
        )


class LedgerError(RecordError):
    """The counts of a load do not add up: rows were lost or doubled on the way."""

    def __init__(self, *, load: str, counts: Mapping[str, int], rule: str) -> None:
        listed = ", ".join(f"{name}={value:,}" for name, value in counts.items())
        super().__init__(f"The ledger of {load} does not close ({rule}): {listed}. Nothing was committed.")


class OffsetsDeletedError(RecordError):
    """Messages that a load has to read are no longer in their topic."""

    def __init__(self, *, topic: str, partition: int, start: int, first: int, cause: str) -> None:
        super().__init__(
            f"{topic}[{partition}]: the load has to go on from offset {start:,}, but {cause} ({first:,} is the first offset there "
            "is). Nothing was committed. A window: write it to Kafka again. A stream: load what is missing from its own source, then let "
            "this load go on from what is there with on_deleted='record', which notes the missing offsets in the receipt. To "
            "prevent it, raise the topic's retention."
        )


class ReconcileError(RecordError):
    """Two places that must hold the same rows do not."""


class DriftError(ReconcileError):
    """The batch and the speed layer differ by more than is allowed."""

    def __init__(self, *, findings: Sequence[str], table: str) -> None:
        super().__init__(
            f"The layers differ by more than is allowed. {'; '.join(findings)}. The batch layer answers for these days all the same; "
            f"the differing rows are in {table}. Find why the stream missed or doubled them, or raise the limit."
        )
