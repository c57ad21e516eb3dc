"""JSON messages → columns of the contract, exactly.

The forms are those that :mod:`tallyclerk.sinks.json_columns` writes; a decimal may be a number too, whose digits are kept as
they are written. A batch is read as a whole by Arrow under declared types. Where Arrow refuses it, the batch is halved until
the parts are small, and a small part is read message by message, which also says what is wrong. Both ways agree on what is right.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from tallyclerk.sources import message_values as values_of
from tallyclerk.sources.message_findings import Findings
from tallyclerk.sources.message_values import Converted

if TYPE_CHECKING:
    import pyarrow as pa

_SMALL_PART = 64
"""Messages that are read one by one once a part of so many holds a bad one."""
_NOT_NUMBERS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class MisfitError(ValueError):
    """A JSON value that is not of the column's type."""


class JsonDecoder:
    """Reads JSON objects as rows of ``target``; members without a column are left out, missing ones are null.

    :param target: the columns to make. :param uuids: columns that hold UUIDs.
    """

    def __init__(self, target: pa.Schema, uuids: Sequence[str] = ()) -> None:
        import pyarrow as pa

        self._target, self._uuids = target, frozenset(uuids)
        self._declared = pa.schema([(field.name, _declared(field.type)) for field in target])

    def decode(self, values: Sequence[bytes], findings: Findings) -> list[pa.Array]:
        """The target's columns; rows with findings hold noise."""
        import pyarrow as pa

        parts = list(self._parts(values, 0, findings))
        return [pa.concat_arrays([part[index] for part in parts]) for index in range(len(self._target))]

    def _parts(self, values: Sequence[bytes], first: int, findings: Findings) -> Any:
        columns = self._whole(values)
        if columns is not None:
            yield columns
        elif len(values) <= _SMALL_PART:
            yield self._each(values, first, findings)
        else:
            middle = len(values) // 2
            yield from self._parts(values[:middle], first, findings)
            yield from self._parts(values[middle:], first + middle, findings)

    def _whole(self, values: Sequence[bytes]) -> list[pa.Array] | None:
        """All messages at once; None where one of them has to be looked at."""
        import pyarrow as pa
        from pyarrow import json as arrow_json

        joined = b"\n".join(values)
        # one line is one object: with as many lines as messages, none can hide in another's
        if joined.count(b"\n") != len(values) - 1 or not all(
            value[:1] == b"{" and value[-1:] == b"}" for value in values
        ):
            return None
        try:
            _check_utf8(joined)
            table = arrow_json.read_json(
                pa.BufferReader(joined),
                read_options=arrow_json.ReadOptions(use_threads=False, block_size=len(joined) + 1),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._declared, unexpected_field_behavior="ignore"
                ),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != len(values):
            return None
        columns = []
        for field in self._target:
            column = table.column(field.name).combine_chunks()
            converted = self._converted(field, column if isinstance(column, pa.Array) else pa.array(column))
            if converted.misfits is not None and converted.misfits.any():
                return None
            columns.append(converted.values)
        return columns

    def _converted(self, field: pa.Field, column: pa.Array) -> Converted:
        """A column as Arrow read it, as the target's type."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.types as kinds

        if column.type == field.type and field.name not in self._uuids:
            return Converted(column, _strange(column))
        if column.null_count:
            held = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
            inner = self._converted(field, column.take(pa.array(held)))
            places = np.zeros(len(column), np.int32)
            places[held] = np.arange(len(held), dtype=np.int32)
            absent = column.is_null().to_numpy(zero_copy_only=False)
            spread = (
                inner.values.take(pa.array(places, mask=absent)) if len(held) else pa.nulls(len(column), field.type)
            )
            return Converted(spread, inner.misfits)
        if field.name in self._uuids:
            return values_of.uuids(column)
        if kinds.is_integer(field.type):
            return values_of.integers(column.to_numpy(), field.type)
        if kinds.is_binary(field.type):
            found = [_from_base64(text) for text in column.to_pylist()]
            return Converted(pa.array(found, field.type), np.array([value is None for value in found], np.bool_))
        return values_of.parsed(column, field.type)

    def _each(self, values: Sequence[bytes], first: int, findings: Findings) -> list[pa.Array]:
        import numpy as np
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        for index, value in enumerate(values):
            place = np.array([first + index])
            row: dict[str, Any] = {}
            try:
                content = json.loads(str(value, "utf-8"), parse_float=Decimal, parse_constant=_refuse_constant)
            except (ValueError, RecursionError) as refusal:
                findings.add(place, column="", reason="json", detail=f"is no JSON: {refusal}"[:200], broken=True)
                content = {}
            if not isinstance(content, dict):
                findings.add(place, column="", reason="json", detail="is no JSON object", broken=True)
                content = {}
            for field in self._target:
                try:
                    row[field.name] = self._reader(field)(content.get(field.name))
                except MisfitError as refusal:
                    findings.add(place, column=field.name, reason="type", detail=str(refusal))
            rows.append(row)
        return [pa.array([row.get(field.name) for row in rows], field.type) for field in self._target]

    def _reader(self, field: pa.Field) -> Callable[[Any], Any]:
        def read(value: Any) -> Any:
            if value is None:
                return None
            found = _python_value(value, field.type, is_uuid=field.name in self._uuids)
            if found is None:
                shown = json.dumps(value, default=str, ensure_ascii=False)
                raise MisfitError(f"{shown[:80]} does not fit {field.type}")
            return found

        return read


def _declared(target: pa.DataType) -> pa.DataType:
    """What Arrow's reader is told: what it would read leniently comes as text."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_integer(target):
        return pa.int64()
    if kinds.is_timestamp(target) or kinds.is_date32(target) or kinds.is_binary(target):
        return pa.string()
    return target


def _python_value(value: Any, target: pa.DataType, *, is_uuid: bool) -> Any:
    """One JSON value as a column's Python value, None when it does not fit."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if kinds.is_boolean(target):
        return value if isinstance(value, bool) else None
    if kinds.is_integer(target):
        bound = 1 << (target.bit_width - 1)
        return value if type(value) is int and -bound <= value < bound else None
    if kinds.is_decimal(target):
        number = isinstance(value, str | Decimal) or type(value) is int
        return values_of.fitted_decimal(str(value), target) if number else None
    if kinds.is_floating(target):
        if isinstance(value, str):
            return _NOT_NUMBERS.get(value)
        double = float(value) if isinstance(value, Decimal) or type(value) is int else math.nan
        return double if math.isfinite(double) else None
    if not isinstance(value, str) or not _is_text(value):
        return None
    if kinds.is_binary(target):
        return _from_base64(value)
    if kinds.is_string(target) and not is_uuid:
        return value
    text = pa.array([value], pa.string())
    converted = values_of.uuids(text) if is_uuid else values_of.parsed(text, target)
    fits = converted.misfits is None or not converted.misfits.any()
    return converted.values[0] if fits else None


def _strange(column: pa.Array) -> Any:
    """Numbers that Arrow's reader lets pass and no JSON has, or that have too many digits; None when there are none."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as kinds

    if kinds.is_floating(column.type):
        finite = pc.is_finite(column).fill_null(True)
        return None if pc.all(finite).as_py() else pc.invert(finite).to_numpy(zero_copy_only=False)
    if kinds.is_decimal128(column.type) and len(column):
        filled = column.fill_null(pa.scalar(0, column.type))
        words = np.frombuffer(filled.buffers()[1], np.uint64)[2 * filled.offset :][: 2 * len(filled)].reshape(-1, 2)
        high, low = words[:, 1].view(np.int64), np.ascontiguousarray(words[:, 0])
        return values_of.decimals(high, low, column.type, scale=column.type.scale).misfits
    return None


def _check_utf8(content: bytes) -> None:
    """:raises ArrowInvalid: it is not UTF-8, which Arrow's reader does not look at."""
    import numpy as np
    import pyarrow as pa

    ends = pa.py_buffer(np.array([0, len(content)], np.int32))
    pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(content)]).cast(pa.string())


def _is_text(value: str) -> bool:
    """False for half a surrogate pair, which JSON can escape and no text can hold."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
