"""What ``numeric_send`` writes, without a server: the format written down a second time, and read back."""

from __future__ import annotations

import struct
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tallyclerk.sources.database_numeric import MAX_DIGITS, numeric_text, read_numerics

SPECIALS = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}


def sent(text: str) -> bytes:
    """A value as the server sends it, by the description in PostgreSQL's ``numeric.c``."""
    if text in SPECIALS:
        return struct.pack(">hhHH", 0, 0, SPECIALS[text], 0)
    whole, _, fraction = text.lstrip("-").partition(".")
    whole = whole.zfill(-(-len(whole) // 4) * 4)
    padded = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    digits = [int((whole + padded)[at : at + 4]) for at in range(0, len(whole + padded), 4)]
    weight = len(whole) // 4 - 1
    while digits and digits[0] == 0:
        digits, weight = digits[1:], weight - 1
    while digits and digits[-1] == 0:
        digits = digits[:-1]
    sign = 0x4000 if text.startswith("-") and digits else 0
    header = (len(digits), weight if digits else 0, sign, len(fraction))
    return struct.pack(f">hhHH{len(digits)}h", *header, *digits)


def is_held(text: str, target: pa.Decimal128Type) -> bool:
    exponent = Decimal(text).normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent >= -target.scale and abs(Decimal(text)) < Decimal(10) ** (target.precision - target.scale)


_finite = st.one_of(
    st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12),
    st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-1, max_value=1),
    st.decimals(allow_nan=False, allow_infinity=False, places=0, min_value=-(10**24), max_value=10**24),
).map(lambda value: f"{value:f}")
_targets = st.integers(1, MAX_DIGITS).flatmap(
    lambda digits: st.integers(0, digits).map(lambda scale: pa.decimal128(digits, scale))
)


@settings(max_examples=300, deadline=None)
@given(
    texts=st.lists(st.one_of(st.none(), _finite, st.sampled_from(sorted(SPECIALS))), max_size=20),
    target=_targets,
    skip=st.integers(0, 3),
)
@example(
    texts=["0", "-0.01", "9999999999.99", "-9999999999.99", "10000", "0.00", "10000000000.00", "1.005"],
    target=pa.decimal128(12, 2),
    skip=0,
)
@example(
    texts=["999999999999999999", "-999999999999999999", "1000000000000000000", "0.1"],
    target=pa.decimal128(18, 0),
    skip=1,
)
@example(texts=["0.999999999999999999", "0.0000000000000000001", "1"], target=pa.decimal128(18, 18), skip=0)
@example(texts=[None, None], target=pa.decimal128(9, 2), skip=0)
def test_values_are_exact_or_marked(texts: list[str | None], target: pa.Decimal128Type, skip: int) -> None:
    found = read_numerics(pa.array([text and sent(text) for text in texts], pa.binary()).slice(skip), target)
    texts = texts[skip:]
    finite = [text is not None and text not in SPECIALS for text in texts]
    held = [is_finite and is_held(str(text), target) for text, is_finite in zip(texts, finite, strict=True)]
    assert found.values.type == target
    assert found.values.to_pylist() == [
        Decimal(str(text)) if fits else None for text, fits in zip(texts, held, strict=True)
    ]
    assert found.special.tolist() == [text in SPECIALS for text in texts]
    assert found.misfit.tolist() == [is_finite and not fits for is_finite, fits in zip(finite, held, strict=True)]


@given(text=st.one_of(_finite, st.sampled_from(sorted(SPECIALS))))
@example(text="0")
@example(text="0.000")
def test_text_is_as_it_was(text: str) -> None:
    assert numeric_text(sent(text)) == (text if text in SPECIALS or Decimal(text) else text.lstrip("-"))


@pytest.mark.parametrize(
    ("text", "wire"), [("12345.67", "0003000100000002000109291a2c"), ("-0.01", "0001ffff400000020064")]
)
def test_format_is_the_servers(text: str, wire: str) -> None:
    """Taken from a server: ``SELECT encode(numeric_send(...), 'hex')``."""
    assert sent(text).hex() == wire
