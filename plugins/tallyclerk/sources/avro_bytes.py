"""Reading Avro's binary encoding (Avro 1.12 specification) from many messages at once.

All messages of a batch lie one behind the other in one buffer, and each has a position in it. A reader takes the same kind of
value from every message in a few numpy operations and tells how far each position moves. No loop goes over messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Places = npt.NDArray[np.int64]

PADDING = 16
"""Bytes before and after the messages, so that a whole word can be loaded at any position."""
_WORD = 8
_STOP_BITS = 0x8080808080808080
_VALUE_BITS = 0x7F7F7F7F7F7F7F7F
_PAIRS = (  # eight groups of 7 bits become four of 14, two of 28, one of 56
    (0x007F007F007F007F, 0x7F007F007F007F00, 1),
    (0x00003FFF00003FFF, 0x3FFF00003FFF0000, 2),
    (0x000000000FFFFFFF, 0x0FFFFFFF00000000, 4),
)
ENDLESS = 1 << 40
"""Length of what has no end: more than any message, so that it counts as cut off."""


class MessageBytes:
    """The messages of one batch.

    :param content: the messages without gaps, ``PADDING`` bytes before and after them.
    """

    def __init__(self, content: bytes | bytearray) -> None:
        import numpy as np

        self.buffer = content
        self.bytes = np.frombuffer(content, np.uint8)
        # a word at every position: numpy loads unaligned ones well enough
        count = len(self.bytes) - _WORD + 1
        self.words: npt.NDArray[np.uint64] = np.ndarray((count,), "<u8", content, 0, (1,))

    def longs(self, at: Places) -> tuple[Places, Places | int]:
        """Avro's int and long: values, and how many bytes each takes."""
        import numpy as np

        first = self.bytes[at]
        if not len(first) or first.max() < 0x80:
            value = first.astype(np.int64)
            return (value >> 1) ^ -(value & 1), 1
        word = self.words[at]
        stops = ~word & np.uint64(_STOP_BITS)
        below = (stops & (~stops + np.uint64(1))) - np.uint64(1)  # all bits below the lowest stop bit
        widths = (np.bitwise_count(below) >> 3).astype(np.int64) + 1
        bits = word & below & np.uint64(_VALUE_BITS)
        for low, high, shift in _PAIRS:
            bits = (bits & np.uint64(low)) | ((bits & np.uint64(high)) >> np.uint64(shift))
        if not stops.all():
            self._finish_long(at, np.flatnonzero(stops == 0), bits, widths)
        one = np.uint64(1)
        return ((bits >> one) ^ (~(bits & one) + one)).view(np.int64), widths

    def _finish_long(self, at: Places, rows: Places, bits: npt.NDArray[np.uint64], widths: Places) -> None:
        """Values of nine and ten bytes; more than 64 bits have no end."""
        import numpy as np

        ninth, tenth = (self.bytes[at[rows] + _WORD + step].astype(np.uint64) for step in (0, 1))
        short = ninth < 0x80
        bits[rows] |= (ninth & np.uint64(0x7F)) << np.uint64(56)
        bits[rows] |= np.where(short, np.uint64(0), (tenth & np.uint64(1)) << np.uint64(63))
        widths[rows] = np.where(short, 9, np.where(tenth <= 1, 10, ENDLESS))

    def floats(self, at: Places, size: int) -> npt.NDArray[np.float64]:
        """IEEE numbers of 4 or 8 bytes, as doubles."""
        import numpy as np

        word = self.words[at]
        if size == _WORD:
            return word.view(np.float64)
        return word.astype(np.uint32).view(np.float32).astype(np.float64)

    def slices(self, begins: Places, ends: Places) -> pa.Array:
        """The bytes between two positions of each message as a binary column; messages must be in the buffer's order.

        The offsets of an Arrow column must not leave gaps, so what lies between two slices is made a value as well: every
        second one is taken.
        """
        import numpy as np
        import pyarrow as pa

        count = len(begins)
        if not count:
            return pa.array([], pa.binary())
        offsets = np.empty(2 * count, np.int32)
        offsets[0::2], offsets[1::2] = begins, ends
        alternating = pa.Array.from_buffers(
            pa.binary(), 2 * count - 1, [None, pa.py_buffer(offsets), pa.py_buffer(self.buffer)]
        )
        return alternating.take(pa.array(np.arange(0, 2 * count, 2, dtype=np.int32)))

    def matrix(self, at: Places, width: int) -> npt.NDArray[np.uint8]:
        """``width`` (up to ``PADDING``) bytes from each position, rows × width."""
        import numpy as np

        return np.lib.stride_tricks.sliding_window_view(self.bytes, width)[at]

    def unscaled(self, ends: Places, lengths: Places) -> tuple[Places, npt.NDArray[np.uint64], Places]:
        """Big-endian two's-complement numbers that end at a position: high and low half of 128 bits, and the rows of more.

        A number of no bytes is 0, as most writers and readers have it.
        """
        import numpy as np

        low = self._signed(ends, np.minimum(lengths, _WORD))
        high = low >> 63
        long = np.flatnonzero(lengths > _WORD)
        if len(long):
            high[long] = self._signed(ends[long] - _WORD, np.minimum(lengths[long] - _WORD, _WORD))
            low[long] = self.words[ends[long] - _WORD].byteswap().view(np.int64)
        return high, low.view(np.uint64), np.flatnonzero(lengths > 2 * _WORD)

    def _signed(self, ends: Places, lengths: Places) -> Places:
        """The ``lengths`` (0 to 8) bytes before a position."""
        import numpy as np

        unused = (_WORD - lengths) * 8
        word = self.words[ends - _WORD].byteswap().view(np.int64)
        # numpy leaves a shift by 64 undefined
        shift = np.minimum(unused, 63)
        return np.where(lengths == 0, 0, (word << shift) >> shift)
