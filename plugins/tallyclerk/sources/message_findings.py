"""What is wrong with messages of a batch, gathered while it is decoded in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Mask = npt.NDArray[np.bool_]
    Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Finding:
    """:param column: "" when the message as a whole is meant. :param rows: indices into the batch, ascending."""

    column: str
    reason: str
    detail: str
    rows: Indices


class Findings:
    """Findings of one batch, and which of its messages they leave out.

    A *broken* message (not framed, cut off) is named once: what is read of it afterwards is noise. A message whose values do
    not fit is named once for each such column.

    :ivar bad: per message, whether it goes to quarantine.
    """

    def __init__(self, count: int) -> None:
        import numpy as np

        self.bad: Mask = np.zeros(count, np.bool_)
        self._broken: Mask = np.zeros(count, np.bool_)
        self.found: list[Finding] = []

    def add(self, rows: Indices, *, column: str, reason: str, detail: str, broken: bool = False) -> None:
        rows = rows[~self._broken[rows]]
        if not len(rows):
            return
        self.bad[rows] = True
        if broken:
            self._broken[rows] = True
        self.found.append(Finding(column, reason, detail, rows))

    def take(self, inner: Findings, rows: Indices) -> None:
        """Take over what was found in a part of the batch; ``rows`` says where its messages stand here."""
        import numpy as np

        for finding in inner.found:
            self.add(
                rows[finding.rows],
                column=finding.column,
                reason=finding.reason,
                detail=finding.detail,
                broken=bool(np.all(inner._broken[finding.rows])),
            )
