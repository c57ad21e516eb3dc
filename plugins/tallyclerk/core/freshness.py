"""How old messages are when they are written: the longest exactly, the others by their logarithms."""

from __future__ import annotations

from typing import Any

_SHORTEST_SECONDS = 0.001
_STEP = 1.05
_BUCKETS = 500  # up to a year


class Freshness:
    """Ages in seconds, counted in buckets that are 5 % wide, so that a day of polls costs no more memory than one."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.max_seconds = 0.0

    def add(self, seconds: Any) -> None:
        """:param seconds: a NumPy array; a clock that is behind makes ages below zero, which count as none."""
        import numpy as np

        if not len(seconds):
            return
        ages = np.maximum(seconds, _SHORTEST_SECONDS)
        buckets = np.ceil(np.log(ages / _SHORTEST_SECONDS) / np.log(_STEP)).astype(int).clip(0, _BUCKETS - 1)
        for bucket, count in zip(*np.unique(buckets, return_counts=True), strict=True):
            self._counts[int(bucket)] += int(count)
        self.max_seconds = max(self.max_seconds, float(np.max(seconds)))

    def quantile(self, share: float) -> float:
        """The age that ``share`` of all do not exceed, at most 5 % too high; 0 without any."""
        wanted, seen = share * sum(self._counts), 0
        if not wanted:
            return 0.0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                return min(_SHORTEST_SECONDS * _STEP**bucket, self.max_seconds)
        return self.max_seconds

    def as_dict(self) -> dict[str, float]:
        return {"max": round(self.max_seconds, 3), "p95": round(self.quantile(0.95), 3)}
