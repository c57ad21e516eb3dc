"""``numeric`` values as PostgreSQL's ``numeric_send`` writes them, many at once, into decimals of up to 18 digits.

To have the server print them costs it a third more than all else that it does for a table of sales, and to print them is what the
driver does with them by itself. A value is a row of words of 16 bits, the highest byte first: how many digits, the weight of the
first of them, the sign, how many places are shown, and then the digits, to the base of 10,000 (``src/backend/utils/adt/numeric.c``).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

MAX_DIGITS = 18
"""What 64 bits hold."""

_HEADER_WORDS = 4
_NEGATIVE, _FIRST_SPECIAL = 0x4000, 0xC000
_SPECIALS = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_LOWEST = -4  # a digit that stands so far behind the last place, or further, has no part in it


@dataclass(frozen=True, slots=True)
class Numerics:
    """:param values: null where a mask holds. :param special: NaN and ±Infinity. :param misfit: more digits than the target has."""

    values: pa.Array
    special: npt.NDArray[np.bool_]
    misfit: npt.NDArray[np.bool_]


def read_numerics(sent: pa.BinaryArray, target: pa.Decimal128Type) -> Numerics:
    """The values of a column.

    :param target: at most of ``MAX_DIGITS`` digits.
    """
    import numpy as np

    there = _is_there(sent)
    words, first = _words(sent, there)
    counts, weights, signs = words[first], words[first + 1].astype("i2").astype("i8"), words[first + 2]
    scaled, misfit = np.zeros(len(first), "i8"), np.zeros(len(first), "?")
    times, by, below = _tables(target)
    for place in range(int(counts.max(initial=0))):
        has = np.flatnonzero(counts > place)
        digits = words[first[has] + _HEADER_WORDS + place].astype("i8")
        exponents = np.clip(4 * (weights[has] - place) + target.scale, _LOWEST, MAX_DIGITS + 1) - _LOWEST
        too_large = digits >= below[exponents]
        parts = np.where(too_large, 0, digits) * times[exponents]
        whole = parts // by[exponents]
        scaled[has] += whole
        misfit[has] |= too_large | (whole * by[exponents] != parts)
    misfit |= scaled >= 10**target.precision
    special = signs >= _FIRST_SPECIAL
    np.negative(scaled, out=scaled, where=signs == _NEGATIVE)
    return Numerics(
        _decimals(_spread(scaled, there), there & ~_spread(misfit | special, there), target),
        _spread(special, there),
        _spread(misfit & ~special, there),
    )


def numeric_text(sent: bytes) -> str:
    """One value as PostgreSQL prints it."""
    count, weight, sign, shown, *digits = (int.from_bytes(sent[at : at + 2]) for at in range(0, len(sent), 2))
    if sign in _SPECIALS:
        return _SPECIALS[sign]
    weight -= (weight & 0x8000) << 1
    unscaled = 0
    for digit in digits:
        unscaled = unscaled * 10_000 + digit
    value = Decimal((int(sign == _NEGATIVE), tuple(map(int, str(unscaled))), 4 * (weight - count + 1)))
    return f"{value:.{shown}f}"


def _is_there(sent: pa.BinaryArray) -> npt.NDArray[np.bool_]:
    """Which values are not null, by the bits of their buffer: for a mask as an array of numpy's, pyarrow imports pandas."""
    import numpy as np

    if not sent.null_count:
        return np.ones(len(sent), "?")
    bits = np.frombuffer(sent.buffers()[0], "u1")
    return np.unpackbits(bits, count=sent.offset + len(sent), bitorder="little")[sent.offset :].astype("?")


def _words(sent: pa.BinaryArray, there: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.int64]]:
    """All words of a column, and where each value that is there begins; every value has whole words."""
    import numpy as np

    _, offsets, content = sent.buffers()
    begins = np.frombuffer(offsets, "i4")[sent.offset : sent.offset + len(sent)]
    words = np.frombuffer(content, ">u2", count=content.size // 2).astype("u2") if content else np.empty(0, "u2")
    return words, begins[there].astype("i8") // 2


def _tables(target: pa.Decimal128Type) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """By a digit's exponent in the last place's units, from ``_LOWEST``: what it is multiplied by, then divided by, and what it has
    to be below, so that the value has not more digits than the target."""
    import numpy as np

    exponents = range(_LOWEST, MAX_DIGITS + 2)
    times = [10 ** min(max(exponent, 0), MAX_DIGITS) for exponent in exponents]
    by = [10 ** max(-exponent, 0) for exponent in exponents]
    below = [
        10 ** (min(target.precision - exponent, 4)) if exponent <= target.precision else 1 for exponent in exponents
    ]
    return np.array(times, "i8"), np.array(by, "i8"), np.array(below, "i8")


def _spread(found: np.ndarray, there: npt.NDArray[np.bool_]) -> np.ndarray:
    """For all rows what was found for those that are there; 0 for the others."""
    import numpy as np

    if len(found) == len(there):
        return found
    spread = np.zeros(len(there), found.dtype)
    spread[there] = found
    return spread


def _decimals(
    scaled: npt.NDArray[np.int64], valid: npt.NDArray[np.bool_], target: pa.Decimal128Type
) -> pa.Decimal128Array:
    import numpy as np
    import pyarrow as pa

    halves = np.empty((len(scaled), 2), "<i8")
    halves[:, 0], halves[:, 1] = scaled, scaled >> 63
    bits = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(target, len(scaled), [bits, pa.py_buffer(halves)])
