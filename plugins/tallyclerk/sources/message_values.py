"""From raw columns to the contract's Arrow types, exactly or not at all.

Every function takes a column without nulls and returns the stored values with the rows that do not fit, whose values are
then of no meaning. On clean data nothing here looks at a single value: columns are compared and cast as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tallyclerk.sources.database_decode import FIRST_DAY, FIRST_MICROSECOND, LAST_DAY, LAST_MICROSECOND

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Mask = npt.NDArray[np.bool_]
    Numbers = npt.NDArray[np.int64]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UUID_LENGTH = 36
_HYPHENS = (8, 13, 18, 23)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")
_LONG_FRACTION = re.compile(r"\.\d{7,}")
_INT64_DIGITS = 18
"""Any number of so many digits is an int64."""


@dataclass(frozen=True, slots=True)
class Converted:
    """:param misfits: True for a row whose value has no place in the type; None when all have."""

    values: pa.Array
    misfits: Mask | None = None


def integers(raw: Numbers, target: pa.DataType) -> Converted:
    import numpy as np
    import pyarrow as pa

    if target.bit_width == 64:
        return Converted(pa.array(raw))
    bound = 1 << (target.bit_width - 1)
    outside = _outside(raw, -bound, bound - 1)
    narrow = raw.astype(np.dtype(f"i{target.bit_width // 8}"))
    return Converted(pa.array(narrow, target), outside)


def instants(raw: Numbers, target: pa.DataType, *, per_second: int) -> Converted:
    """Ticks since 1970 as microseconds; finer ones must be whole microseconds. The years 1 to 9999."""
    import numpy as np
    import pyarrow as pa

    misfits = None
    if per_second > 1_000_000:
        step = per_second // 1_000_000
        misfits = _or_none(raw % step != 0)
        micros = raw // step
    else:
        factor = 1_000_000 // per_second
        bound = np.iinfo(np.int64).max // factor
        misfits = _outside(raw, -bound, bound)
        micros = raw * factor if factor > 1 else raw
    outside = _outside(micros, FIRST_MICROSECOND, LAST_MICROSECOND)
    return Converted(pa.array(micros).view(target), _either(misfits, outside))


def days(raw: Numbers, target: pa.DataType) -> Converted:
    """Days since 1970, in the years 1 to 9999."""
    import numpy as np
    import pyarrow as pa

    return Converted(pa.array(raw.astype(np.int32)).view(target), _outside(raw, FIRST_DAY, LAST_DAY))


def decimals(high: Numbers, low: npt.NDArray[np.uint64], target: pa.Decimal128Type, *, scale: int) -> Converted:
    """Unscaled 128-bit numbers of ``scale`` digits after the point, which is not more than the target's.

    :param high, low: the halves of the numbers.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    words = np.empty((len(low), 2), np.uint64)
    words[:, 0], words[:, 1] = low, high.view(np.uint64)
    whole_digits = target.precision - target.scale + scale
    small = low.view(np.int64)
    if whole_digits <= _INT64_DIGITS and np.array_equal(high, small >> 63):
        bound = 10**whole_digits - 1
        misfits = _outside(small, -bound, bound)
    else:
        wide = _decimal_array(words, pa.decimal128(38, 0))
        limit = pa.scalar(Decimal(10**whole_digits), pa.decimal256(39, 0))
        magnitude = pc.abs(wide.cast(pa.decimal256(39, 0)))
        misfits = _or_none(pc.greater_equal(magnitude, limit).to_numpy(zero_copy_only=False))
    if misfits is not None:
        words[misfits] = 0
    if scale == target.scale:
        return Converted(_decimal_array(words, target), misfits)
    return Converted(_decimal_array(words, pa.decimal128(max(whole_digits, scale, 1), scale)).cast(target), misfits)


def texts(raw: pa.Array) -> Converted:
    """Bytes as text; what is not UTF-8 does not fit."""
    import numpy as np
    import pyarrow as pa

    try:
        return Converted(raw.cast(pa.string()))
    except pa.ArrowInvalid:
        values = [_decoded(value) for value in raw.to_pylist()]
        return Converted(pa.array(values, pa.string()), np.array([value is None for value in values]))


def uuids(text: pa.StringArray) -> Converted:
    """UUIDs in their one written form, in lower case as they are stored."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    offsets = np.frombuffer(text.buffers()[1], np.int32)[text.offset : text.offset + len(text) + 1]
    if len(text) and (np.diff(offsets) == _UUID_LENGTH).all():
        signs = np.frombuffer(text.buffers()[2], np.uint8)[offsets[0] : offsets[-1]].reshape(-1, _UUID_LENGTH)
        kinds = _sign_kinds()[signs]
        fits = ((kinds == ord("-")) == _hyphen_row()).all(axis=1) & (kinds != 0).all(axis=1)
        lowered = pc.utf8_lower(text) if (kinds == ord("U")).any() else text
        return Converted(lowered, _or_none(~fits))
    values = [value.lower() for value in text.to_pylist()]
    return Converted(
        pa.array(values, pa.string()), np.array([not _UUID.fullmatch(value) for value in values], np.bool_)
    )


def uuids_of_bytes(raw: npt.NDArray[np.uint8]) -> Converted:
    """Rows of 16 bytes as a UUID's text."""
    import numpy as np
    import pyarrow as pa

    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    signs = np.full((len(raw), _UUID_LENGTH), ord("-"), np.uint8)
    places = [place for place in range(_UUID_LENGTH) if place not in _HYPHENS]
    signs[:, places[0::2]] = digits[raw >> 4]
    signs[:, places[1::2]] = digits[raw & 15]
    ends = np.arange(len(raw) + 1, dtype=np.int32) * np.int32(_UUID_LENGTH)
    return Converted(pa.StringArray.from_buffers(len(raw), pa.py_buffer(ends), pa.py_buffer(signs)))


def parsed(text: pa.StringArray, target: pa.DataType) -> Converted:
    """Text as a decimal, a date or an instant (ISO 8601, UTC where no zone is stated)."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.types as kinds

    # instants with a zone, or without one
    for form in [target, pa.timestamp("us")] if kinds.is_timestamp(target) else [target]:
        try:
            values = text.cast(form)
        except pa.ArrowInvalid:
            continue
        if kinds.is_timestamp(target):
            return instants(values.view(pa.int64()).to_numpy(), target, per_second=1_000_000)
        if kinds.is_date32(target):
            return days(values.view(pa.int32()).to_numpy().astype(np.int64), target)
        return Converted(values)
    parse = _parser(target)
    found = [parse(value) for value in text.to_pylist()]
    misfits = np.array([value is None for value in found], np.bool_)
    return Converted(pa.array(found, target), misfits)


def _parser(target: pa.DataType) -> Callable[[str], Any]:
    """One text to one value, None when it does not fit."""
    import pyarrow.types as kinds

    if kinds.is_timestamp(target):
        return _instant
    if kinds.is_date32(target):
        return _day
    return lambda text: fitted_decimal(text, target)


def fitted_decimal(text: str, target: pa.Decimal128Type) -> Decimal | None:
    """The number that a text states, None when it is no finite number or does not fit without rounding."""
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if number and number.adjusted() >= target.precision - target.scale:
        return None
    digits = number.as_tuple().digits
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    extra = -exponent - target.scale
    if extra > 0 and any(digits[-extra:]):
        return None
    return number


def _instant(text: str) -> datetime | None:
    if _LONG_FRACTION.search(text):
        return None
    try:
        instant = datetime.fromisoformat(text)
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _decoded(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _decimal_array(words: npt.NDArray[np.uint64], target: pa.DataType) -> pa.Array:
    import pyarrow as pa

    return pa.Array.from_buffers(target, len(words), [None, pa.py_buffer(words)])


def _outside(raw: Numbers, least: int, most: int) -> Mask | None:
    """Where a number is not between the bounds; None when all are."""
    if not len(raw) or (raw.min() >= least and raw.max() <= most):
        return None
    return (raw < least) | (raw > most)


def _or_none(mask: Mask) -> Mask | None:
    return mask if mask.any() else None


def _either(one: Mask | None, other: Mask | None) -> Mask | None:
    if one is None or other is None:
        return other if one is None else one
    return one | other


def _sign_kinds() -> npt.NDArray[np.uint8]:
    import numpy as np

    kinds = np.zeros(256, np.uint8)
    kinds[list(b"0123456789abcdef")] = ord("l")
    kinds[list(b"ABCDEF")] = ord("U")
    kinds[ord("-")] = ord("-")
    return kinds


def _hyphen_row() -> Mask:
    import numpy as np

    row = np.zeros(_UUID_LENGTH, np.bool_)
    row[list(_HYPHENS)] = True
    return row
