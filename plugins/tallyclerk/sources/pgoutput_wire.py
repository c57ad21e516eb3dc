"""The bytes of pgoutput messages: numbers, tuples and texts of many messages at once.

Source: PostgreSQL 17, 53.9 "Logical Replication Message Formats".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tallyclerk.exceptions import TerminalError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Bytes = npt.NDArray[np.uint8]
    Numbers = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

UNCHANGED, TEXT = b"ut"
"""Kinds of a value in a tuple, beside null."""


@dataclass(frozen=True, slots=True)
class LoggedColumn:
    """A column as a Relation message names it. ``oid`` is the type's, a domain's own."""

    name: str
    oid: int
    typmod: int


@dataclass(frozen=True, slots=True)
class LoggedTable:
    """A table as it was when the changes that follow were made.

    :param identity: what an old row holds: ``d`` the primary key, ``i`` an index's columns, ``f`` all, ``n`` nothing.
    """

    oid: int
    name: str
    identity: str
    columns: tuple[LoggedColumn, ...]

    def position(self, name: str) -> int | None:
        return next((place for place, column in enumerate(self.columns) if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Wire:
    """A batch's bytes, and where each message starts in them. Numbers are big-endian and stand at any byte."""

    data: Bytes
    buffer: pa.Buffer
    starts: Numbers

    @classmethod
    def of(cls, messages: pa.BinaryArray) -> Wire:
        import numpy as np

        _, offsets, buffer = messages.buffers()
        first = messages.offset
        starts = np.frombuffer(offsets, np.int32)[first : first + len(messages)].astype(np.int64)
        return cls(np.frombuffer(buffer, np.uint8), buffer, starts)

    @property
    def types(self) -> Bytes:
        return self.data[self.starts]

    def int64(self, messages: Numbers, offset: int) -> Numbers:
        return self._view(">i8")[self.starts[messages] + offset].astype("int64")

    def int32(self, messages: Numbers, offset: int) -> Numbers:
        return self._view(">u4")[self.starts[messages] + offset].astype("int64")

    def int32_at(self, positions: Numbers) -> Numbers:
        return self._view(">u4")[positions].astype("int64")

    def int16_at(self, positions: Numbers) -> Numbers:
        return self._view(">u2")[positions].astype("int64")

    def _view(self, form: str) -> npt.NDArray[np.generic]:
        """The bytes as numbers that begin at every byte."""
        import numpy as np

        kind = np.dtype(form)
        count = max(len(self.data) - kind.itemsize + 1, 0)
        return np.ndarray(shape=(count,), dtype=kind, buffer=self.buffer, strides=(1,))

    def table(self, message: int) -> LoggedTable:
        """Parse a Relation message."""
        raw = memoryview(self.buffer)
        place = int(self.starts[message]) + 1

        def number(size: int) -> int:
            nonlocal place
            place += size
            return int.from_bytes(raw[place - size : place])

        def text() -> str:
            nonlocal place
            end = place
            while raw[end]:
                end += 1
            found = bytes(raw[place:end]).decode()
            place = end + 1
            return found

        oid, schema, name, identity = number(4), text(), text(), chr(number(1))
        columns = []
        for _ in range(number(2)):
            number(1)  # whether it is part of the identity
            columns.append(LoggedColumn(text(), number(4), (number(4) ^ 2**31) - 2**31))
        return LoggedTable(oid, f"{schema}.{name}", identity, tuple(columns))


@dataclass(frozen=True, slots=True)
class Tuples:
    """Some rows, column by column: a value's kind (n, u or t), where its text begins and how long it is.

    :param ends: where each tuple ends.
    """

    kinds: Bytes
    starts: Numbers
    lengths: Numbers
    ends: Numbers

    @classmethod
    def read(cls, wire: Wire, positions: Numbers, columns: int) -> Tuples:
        """Walk through the tuples that begin at ``positions``, all of them at once."""
        import numpy as np

        if len(positions) and np.any(wire.int16_at(positions) != columns):
            raise TerminalError("A change's columns are not as many as its table has. Report this.")
        shape = columns, len(positions)
        kinds, starts, lengths = np.empty(shape, np.uint8), np.empty(shape, np.int64), np.zeros(shape, np.int64)
        place = positions + 2
        for column in range(columns):
            kinds[column] = wire.data[place]
            told = kinds[column] == TEXT
            # where nothing follows, no length is read: its place may lie beyond the buffer
            lengths[column][told] = wire.int32_at(place[told] + 1)
            starts[column] = place + 5 * told
            place = place + 1 + 4 * told + lengths[column]
        return cls(kinds, starts, lengths, place)

    def with_updates(self, rows: Numbers, new: Tuples, full: Flags) -> Tuples:
        """These rows with the second tuples of some of them. What a new row leaves untold, a full old row has."""
        import numpy as np

        known = (new.kinds == UNCHANGED) & full
        kinds, starts, lengths = self.kinds.copy(), self.starts.copy(), self.lengths.copy()
        kinds[:, rows] = np.where(known, kinds[:, rows], new.kinds)
        starts[:, rows] = np.where(known, starts[:, rows], new.starts)
        lengths[:, rows] = np.where(known, lengths[:, rows], new.lengths)
        return Tuples(kinds, starts, lengths, self.ends)

    def alternating(self, other: Tuples, rows: Numbers, mine: Flags) -> Tuples:
        """The rows numbered in ``rows``, of these tuples where ``mine`` says so, else of the others."""
        import numpy as np

        return Tuples(
            np.where(mine, self.kinds[:, rows], other.kinds[:, rows]),
            np.where(mine, self.starts[:, rows], other.starts[:, rows]),
            np.where(mine, self.lengths[:, rows], other.lengths[:, rows]),
            self.ends[rows],
        )

    def texts(self, wire: Wire, column: int, rows: Numbers | None = None) -> pa.StringArray:
        """One column's values, of some rows or of all."""
        chosen = slice(None) if rows is None else rows
        return texts_at(
            wire, self.kinds[column][chosen] == TEXT, self.starts[column][chosen], self.lengths[column][chosen]
        )


def texts_at(wire: Wire, told: Flags, starts: Numbers, lengths: Numbers) -> pa.StringArray:
    """Texts that lie somewhere in the buffer, in its order; null where nothing is told.

    A string array needs its values side by side. So one is made, of the same bytes, in which every second value is what lies
    between two texts, and the others are taken from it.
    """
    import numpy as np
    import pyarrow as pa

    rows = len(starts)
    if not rows:
        return pa.array([], pa.string())
    if not told.all():
        # an untold value lies, empty, where the one before it ended
        starts, lengths = starts.copy(), np.where(told, lengths, 0)
        starts[~told] = 0
        starts[~told] = np.maximum.accumulate(starts + lengths)[~told]
    offsets = np.empty(2 * rows, np.int32)
    offsets[0::2] = starts
    offsets[1::2] = starts + lengths
    if np.any(offsets[1:] < offsets[:-1]):  # a moved row's two events share a TOAST value
        raw = memoryview(wire.buffer)
        found = [
            bytes(raw[a : a + n]).decode() if known else None for a, n, known in zip(starts, lengths, told, strict=True)
        ]
        return pa.array(found, pa.string())
    between = pa.BinaryArray.from_buffers(pa.binary(), 2 * rows - 1, [None, pa.py_buffer(offsets), wire.buffer])
    wanted = pa.array(np.arange(0, 2 * rows, 2), mask=~told)
    return between.take(wanted).view(pa.string())
