"""Which row versions are new since a snapshot, told by the transactions that wrote them (``xmin``), without a log.

A watermark of time loses rows: a transaction that began before the last read and commits after it brings rows with older
times than those already read. Transactions are what a snapshot itself goes by, so nothing of it is lost:

* The **horizon** of a snapshot is ``pg_snapshot_xmin``: every transaction below it had ended. A row version that
  became visible since then was written by a transaction at or above the horizon. That holds for savepoints too: a subtransaction
  has an id of its own, in ``xmin`` too, but gets it after its parent has one, and the parent, still open, is not below the horizon.
  (``pg_visible_in_snapshot`` knows nothing of subtransactions, and would call such a row seen.)
* Of the versions at or above the horizon some had been **seen**: their transactions ended before the snapshot, while an older one
  was open. All rows of a transaction become visible together, so that its id says whether they were seen: a run keeps the ids, at or
  above its horizon, that it found in the rows it read.
* ``xmin`` has 32 bits and comes round after four billion transactions. Everything is compared as a **distance** from the
  snapshot's end, which ``age`` computes in the circle; a distance of up to two billion is certain, as PostgreSQL freezes what is
  older. A frozen row keeps its old ``xmin`` to look at (since 9.4; before, it became 2, whose age is boundless), and is
  older than any horizon that is still in use. Only one frozen a whole round ago, or several, may look new: it is then sent once more, unchanged.

Sources: PostgreSQL 17, 9.27.8 (snapshots), 5.6 (system columns), 24.1.5 (wraparound), 66.1 (transactions and identifiers).
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyclerk.exceptions import TransientError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Numbers = npt.NDArray[np.int64]

MAX_DISTANCE = 2_000_000_000
"""In transactions: beyond it the order of two 32-bit ids is not certain."""
MAX_SEEN = 200_000
"""Ids above the horizon that a position may hold: about two bytes each."""
_FIRST_NORMAL = 3
_ROUND = 1 << 32


@dataclass(frozen=True, slots=True)
class TransactionSpan:
    """A snapshot's two bounds as 64-bit ids: below ``horizon`` all had ended, from ``end`` on none had begun."""

    horizon: int
    end: int

    @classmethod
    def of(cls, snapshot: str) -> TransactionSpan:
        """:param snapshot: the text of ``pg_current_snapshot()``, ``xmin:xmax:xip,xip``."""
        horizon, end, _ = snapshot.split(":")
        return cls(int(horizon), int(end))

    def since(self, horizon: int, *, column: str = "xmin") -> str:
        """SQL that is true for the versions of this snapshot written at or above an earlier horizon.

        It takes constants only, as ``age`` alone counts from "now", which two sessions of one snapshot do not share.
        """
        distance = f"age({column})::bigint - age('{self.end % _ROUND}'::xid)"
        return f"{distance} BETWEEN 1 AND {self.end - horizon}"

    def reaches(self, horizon: int) -> bool:
        """Whether versions at or above an earlier horizon can be told from older ones."""
        return 0 <= self.end - horizon <= MAX_DISTANCE

    def full_ids(self, xmins: Numbers) -> Numbers:
        """32-bit ids of visible versions as 64-bit ones; 0 for the special ids below 3."""
        import numpy as np

        distance = (self.end - xmins) % _ROUND
        distance = np.where(
            distance >= _ROUND // 2, distance - _ROUND, distance
        )  # frozen by another than the usual way
        return np.where(xmins < _FIRST_NORMAL, 0, self.end - distance)


def pack_ids(ids: Numbers, horizon: int) -> str:
    """Distinct ids at or above a horizon as a short text: differences, deflated.

    :raises TransientError: there are too many to keep; an open transaction holds the horizon back.
    """
    import numpy as np

    kept = np.unique(ids[ids >= horizon])
    if len(kept) > MAX_SEEN:
        raise TransientError(
            f"{len(kept):,} transactions have written to the table since transaction {horizon}, which is still open, and more than "
            f"{MAX_SEEN:,} cannot be kept in a position. Nothing was sent. End it (see pg_stat_activity.xact_start and "
            "pg_prepared_xacts) and run again."
        )
    if not len(kept):
        return ""
    steps = np.diff(kept, prepend=horizon).astype("<u4")
    return base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode()


def unpack_ids(text: str, horizon: int) -> Numbers:
    """The inverse of :func:`pack_ids`."""
    import numpy as np

    if not text:
        return np.empty(0, np.int64)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<u4").astype(np.int64)
    return np.cumsum(steps) + horizon
