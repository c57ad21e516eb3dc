"""Where in a topic: half-open offset ranges, one a partition, as receipts carry them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

OFFSETS_KEY = "offsets"
"""Under which name ``Receipt.cursor`` (of a reader) or ``Receipt.details`` (of a writer) holds ``Offsets.as_dict()``."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """Half-open ranges ``[start, end)`` of one topic's partitions.

    A range may span offsets that hold no message of ours (transaction markers, aborted messages, compacted ones): it says
    where to read, never how many messages there are.

    :param ranges: partition → (start, end); a partition that is not named has no part in it.
    """

    topic: str
    ranges: Mapping[int, tuple[int, int]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(end > start for start, end in self.ranges.values())

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(partition, start, end) of the ranges that are not empty, by partition."""
        for partition in sorted(self.ranges):
            start, end = self.ranges[partition]
            if end > start:
                yield partition, start, end

    def joined(self, other: Offsets) -> Offsets:
        """The smallest ranges that hold both; for two transactions of one load."""
        merged = dict(self.ranges)
        for partition, (start, end) in other.ranges.items():
            known = merged.get(partition, (start, end))
            merged[partition] = (min(start, known[0]), max(end, known[1]))
        return Offsets(self.topic or other.topic, merged)

    def ends(self) -> dict[int, int]:
        """Partition → the offset to read from next."""
        return {partition: end for partition, (_, end) in self.ranges.items()}

    def as_dict(self) -> dict[str, dict[str, list[int]]]:
        """Plain JSON: ``{topic: {"0": [start, end]}}``."""
        return {self.topic: {str(partition): list(self.ranges[partition]) for partition in sorted(self.ranges)}}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Mapping[str, list[int]]]) -> Offsets:
        ((topic, ranges),) = facts.items()
        return cls(topic, {int(partition): (int(start), int(end)) for partition, (start, end) in ranges.items()})
