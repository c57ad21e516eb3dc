"""From PostgreSQL's texts, as the log has them, to the arrays that the database source gets from its driver.

What follows is then the same for both (:func:`~tallyclerk.sources.database_decode.decode_batch`): the same types, special
values, misfits and quarantine, because it is the same code. A table's column is planned by
:func:`~tallyclerk.sources.database_types.fit` too. Where its plan has the server convert a value in a way that differs from the value's own
text (an array to JSON, an address to text with its mask), the server is asked to do so here as well: one query a column and batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tallyclerk.contracts.projections import quoted
from tallyclerk.sources.database_text import days_of, microseconds_of
from tallyclerk.sources.database_types import INTEGERS, NUMERIC, TIMESTAMP, UUID, ColumnPlan, DescribedColumn

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

_REGULAR_INSTANT = r"^\d{4}-\d\d-\d\d[^B]*$"
_REAL = 700
_TEXT_AS_CAST = {*INTEGERS, NUMERIC, UUID, 114, 3802, 25, 1043, 19, 700, 701, 1082, 1083, 1114, 1184, 1186, 1266}
"""Types whose text is what ``::text`` yields: numbers, uuid, json, jsonb, texts, dates and times. All others are cast by the server."""


@dataclass(frozen=True, slots=True)
class TextColumn:
    """How one column's texts become what the driver would have yielded.

    :param plan: for the decoder.
    :param server_type: type to which the server casts the text before it applies the plan's expression; None where
        the text is right as it is.
    """

    column: DescribedColumn
    plan: ColumnPlan
    server_type: str | None = None

    @classmethod
    def of(cls, column: DescribedColumn, plan: ColumnPlan, *, time_zone: str) -> TextColumn:
        plain = quoted(column.name)
        if plan.wire in ("uuid", "numeric"):
            plan = replace(plan, wire="plain" if plan.wire == "uuid" else "decimal")  # it comes as text already
        as_is = (
            plan.expression in (plain, f"{plain}::bigint", f"{plain}::integer", f"{plain}::double precision")
            or plan.wire == "decimal"
            or (plan.expression == f"{plain}::text" and (column.oid in _TEXT_AS_CAST or not _is_built_in(column)))
            or (column.oid == TIMESTAMP and plan.wire == "timestamp" and time_zone == "UTC")
        )
        return cls(column, plan, None if as_is else column.type_name)

    def array(self, texts: pa.StringArray, ask: Callable[[TextColumn, pa.StringArray], pa.StringArray]) -> pa.Array:
        """:param ask: has the server apply the plan's expression."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.server_type is not None:
            texts = ask(self, texts)
        plan = self.plan
        if plan.wire == "decimal":
            return _without_zeros(texts) if self.column.oid == NUMERIC else texts
        if plan.wire == "date":
            return _parsed(texts, plan.arrow, days_of)
        if plan.wire == "timestamp":
            return _instants(texts, plan.arrow)
        if plan.arrow == pa.string():
            return texts
        if plan.arrow == pa.bool_():
            return pc.equal(texts, "t")
        if plan.arrow == pa.binary():
            return _unhexed(texts)
        if plan.arrow == pa.float64() and self.column.oid == _REAL:
            return texts.cast(pa.float32()).cast(pa.float64())  # as the server widens it
        return texts.cast(plan.arrow)


def ask_server(connection: psycopg.Connection) -> Callable[[TextColumn, pa.StringArray], pa.StringArray]:
    """The conversion of texts by the server, in a session whose settings are those of the source's."""

    def ask(text: TextColumn, values: pa.StringArray) -> pa.StringArray:
        import pyarrow as pa

        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT ({text.plan.expression})::text FROM (SELECT given::{text.server_type} AS {quoted(text.plan.name)}, nr "  # noqa: S608
                "FROM unnest(%s::text[]) WITH ORDINALITY AS asked(given, nr)) AS typed ORDER BY nr",
                [values.to_pylist()],
            )
            return pa.array([text for (text,) in cursor.fetchall()], pa.string())

    return ask


def driver_batch(
    texts: Sequence[pa.StringArray],
    columns: Sequence[TextColumn],
    ask: Callable[[TextColumn, pa.StringArray], pa.StringArray],
) -> pa.RecordBatch:
    """The batch that the driver would have yielded for these values."""
    import pyarrow as pa

    arrays = [column.array(values, ask) for values, column in zip(texts, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=[column.plan.name for column in columns])


def _is_built_in(column: DescribedColumn) -> bool:
    return column.oid < 16384  # FirstNormalObjectId: enums and other types of users are above


def _without_zeros(texts: pa.StringArray) -> pa.StringArray:
    """As ``trim_scale``: a value that fits but for zeros at its end is no misfit."""
    import pyarrow.compute as pc

    if not pc.any(pc.match_substring_regex(texts, r"\..*0$")).as_py():
        return texts
    trimmed = pc.utf8_rtrim(pc.utf8_rtrim(texts, "0"), ".")
    return pc.if_else(pc.match_substring(texts, "."), trimmed, texts)


def _instants(texts: pa.StringArray, target: pa.TimestampType) -> pa.Array:
    """A timestamp without a zone means UTC here; other zones went to the server."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if target.tz is None:
        return _parsed(texts, target, microseconds_of)
    naive = pc.if_else(pc.ends_with(texts, "+00"), pc.utf8_slice_codeunits(texts, 0, -3), texts)
    return _parsed(naive, pa.timestamp("us"), microseconds_of).cast(target)


def _parsed(texts: pa.StringArray, target: pa.DataType, one: Callable[[str], int]) -> pa.Array:
    """Cast all at once; where that fails, the irregular ones (infinite, BC, after 9999) on their own, as the driver wraps them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return texts.cast(target)
    except pa.ArrowInvalid:
        regular = pc.match_substring_regex(texts, _REGULAR_INSTANT)
    storage = pa.int32() if pa.types.is_date32(target) else pa.int64()
    usual = pc.if_else(regular, texts, pa.scalar(None, pa.string())).cast(target).view(storage)
    numbers = [
        value if known in (True, None) else one(text)
        for value, known, text in zip(usual.to_pylist(), regular.to_pylist(), texts.to_pylist(), strict=True)
    ]
    return pa.array(numbers, storage).view(target)


def _unhexed(texts: pa.StringArray) -> pa.BinaryArray:
    """``\\x00ff`` → two bytes, for a whole column at once."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    digits = pc.utf8_slice_codeunits(texts, 2)
    if not len(digits) or digits.null_count == len(digits):
        return pa.nulls(len(digits), pa.binary())
    _, offsets, data = digits.buffers()
    bounds = np.frombuffer(offsets, np.int32)[digits.offset : digits.offset + len(digits) + 1]
    raw = bytes.fromhex(memoryview(data)[bounds[0] : bounds[-1]].tobytes().decode())
    halves = (bounds - bounds[0]) // 2
    plain = pa.BinaryArray.from_buffers(
        pa.binary(), len(digits), [None, pa.py_buffer(halves.astype(np.int32)), pa.py_buffer(raw)]
    )
    return pc.if_else(digits.is_null(), pa.scalar(None, pa.binary()), plain) if digits.null_count else plain
