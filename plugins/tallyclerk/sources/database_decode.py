"""From the driver's batches to a load's: decimals, uuids, and the values that Arrow cannot hold.

On clean data nothing here looks at a single value: a column is cast, or its minimum and maximum are compared, as a whole.
Only where that finds something does it go on to the rows. PostgreSQL sends ±infinity as the largest and smallest integer,
and the driver's shift from 2000 to 1970 wraps them round; the shift is a bijection on 64 bits (32 for dates), so that
wrapped values still lie outside the years 1–9999, are found there, and are turned back here for quarantine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tallyclerk.exceptions import SchemaMismatchError, TerminalError
from tallyclerk.sources.database_numeric import numeric_text, read_numerics
from tallyclerk.sources.database_text import date_text, special_text, timestamp_text
from tallyclerk.sources.database_types import ColumnPlan

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Indices = npt.NDArray[np.int64]

SpecialValues = Literal["fail", "null", "reject"]

FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days since 1970
FIRST_MICROSECOND, LAST_MICROSECOND = FIRST_DAY * 86_400_000_000, (LAST_DAY + 1) * 86_400_000_000 - 1
NOT_A_NUMBER = ("NaN", "Infinity", "-Infinity")


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows of a batch whose value of one column cannot be stored.

    :param reason: ``special_value`` (the policy decides), ``does_not_fit`` or ``required`` (always rejected).
    :param rows: indices into the batch, ascending.
    """

    column: str
    reason: str
    detail: str
    rows: Indices


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """:param rows: the rows to write. :param text: a row of the driver's batch, by index, as PostgreSQL's texts."""

    rows: pa.RecordBatch
    rejected: Indices
    findings: tuple[Finding, ...]
    nulled: dict[str, int]
    text: Callable[[int], dict[str, str | None]]


@dataclass(slots=True)
class _Column:
    """One column on its way; bad values are already null in ``values``."""

    values: pa.Array
    specials: Indices | None = None
    misfits: Indices | None = None
    findings: list[Finding] = field(default_factory=list)


def decode_batch(batch: pa.RecordBatch, plans: Sequence[ColumnPlan], policy: SpecialValues) -> DecodedBatch:
    """Convert one batch of the driver.

    :raises SchemaMismatchError: the driver yields another type than the plan says.
    :raises TerminalError: a text is not UTF-8 (a database whose encoding is SQL_ASCII does not check).
    """
    import numpy as np
    import pyarrow as pa

    findings: list[Finding] = []
    columns: list[pa.Array] = []
    nulled: dict[str, int] = {}
    for values, plan in zip(batch.columns, plans, strict=True):
        column = _decode(values, plan)
        columns.append(column.values)
        if column.specials is not None and len(column.specials):
            if policy == "null":
                nulled[plan.name] = len(column.specials)
            else:
                findings.append(_finding(plan, "special_value", "has no counterpart in the lake", column.specials))
        if column.misfits is not None and len(column.misfits):
            findings.append(_finding(plan, "does_not_fit", f"does not fit {plan.arrow} exactly", column.misfits))
        if plan.required and column.values.null_count:
            found = np.flatnonzero(column.values.is_null().to_numpy(zero_copy_only=False))
            known = [
                rows for rows in (column.misfits, None if policy == "null" else column.specials) if rows is not None
            ]
            missing = np.setdiff1d(found, np.concatenate(known)) if known else found
            if len(missing):
                findings.append(_finding(plan, "required", "a required column is null", missing))
    rows = pa.RecordBatch.from_arrays(columns, schema=schema_of(plans, nullable=True))
    rejected = np.unique(np.concatenate([f.rows for f in findings])) if findings else np.empty(0, np.int64)
    if len(rejected):
        keep = np.ones(batch.num_rows, dtype=bool)
        keep[rejected] = False
        rows = rows.filter(pa.array(keep))
    rows = rows.cast(schema_of(plans))
    return DecodedBatch(rows, rejected, tuple(findings), nulled, lambda index: _row_text(batch, plans, index))


def schema_of(plans: Sequence[ColumnPlan], *, nullable: bool = False) -> pa.Schema:
    """The Arrow schema of the decoded rows; a required column is not nullable unless told so."""
    import pyarrow as pa

    return pa.schema([pa.field(plan.name, plan.arrow, nullable=nullable or not plan.required) for plan in plans])


def uuid_text(values: pa.Array) -> pa.Array:
    """Sixteen bytes each → lower-case text with hyphens, for a whole column at once."""
    import numpy as np
    import pyarrow as pa

    rows = len(values)
    raw = np.frombuffer(values.buffers()[1], dtype=np.uint8)[values.offset * 16 : (values.offset + rows) * 16]
    pairs = np.frombuffer(bytes(range(256)).hex().encode(), dtype=np.uint16)
    digits = pairs[raw].view(np.uint8).reshape(rows, 32)
    text = np.full((rows, 36), ord("-"), dtype=np.uint8)
    for target, source in (
        (0, slice(0, 8)),
        (9, slice(8, 12)),
        (14, slice(12, 16)),
        (19, slice(16, 20)),
        (24, slice(20, 32)),
    ):
        part = digits[:, source]
        text[:, target : target + part.shape[1]] = part
    offsets = np.arange(0, 36 * (rows + 1), 36, dtype=np.int32)
    plain = pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(text))
    if not values.null_count:
        return plain
    import pyarrow.compute as pc

    return pc.if_else(values.is_null(), pa.scalar(None, pa.string()), plain)


def _decode(values: pa.Array, plan: ColumnPlan) -> _Column:
    import numpy as np
    import pyarrow as pa

    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    expected = {"numeric": pa.binary(), "decimal": pa.string(), "uuid": pa.binary(16)}.get(plan.wire, plan.arrow)
    if values.type != expected:
        raise SchemaMismatchError(
            table="the driver's result",
            differences=[f"{plan.name} ({plan.type_name}) came as {values.type}, not {expected}"],
        )
    if values.type == pa.string():
        try:
            values.validate(full=True)
        except pa.ArrowInvalid as error:
            raise TerminalError(
                f"Column {plan.name} holds text that is not UTF-8: {error}. Mend it in the database."
            ) from error
    if plan.wire == "numeric":
        found = read_numerics(values, plan.arrow)
        return _Column(found.values, specials=np.flatnonzero(found.special), misfits=np.flatnonzero(found.misfit))
    if plan.wire == "decimal":
        return _decimal(values, plan.arrow)
    if plan.wire == "uuid":
        return _Column(uuid_text(values))
    if plan.wire == "date":
        return _in_range(values, pa.int32(), FIRST_DAY, LAST_DAY)
    if plan.wire == "timestamp":
        return _in_range(values, pa.int64(), FIRST_MICROSECOND, LAST_MICROSECOND)
    return _Column(values)


def _in_range(values: pa.Array, storage: pa.DataType, first: int, last: int) -> _Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = values.view(storage)
    bounds = pc.min_max(numbers)
    low, high = bounds["min"].as_py(), bounds["max"].as_py()
    if low is None or (low >= first and high <= last):
        return _Column(values)
    outside = pc.or_(pc.less(numbers, pa.scalar(first, storage)), pc.greater(numbers, pa.scalar(last, storage)))
    return _Column(_without(values, outside), specials=_indices(outside))


def _decimal(values: pa.Array, target: pa.DataType) -> _Column:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return _Column(values.cast(target))
    except pa.ArrowInvalid:
        special = pc.is_in(values, value_set=pa.array(NOT_A_NUMBER))
    column = _Column(_without(values, special), specials=_indices(special))
    try:
        column.values = column.values.cast(target)
    except pa.ArrowInvalid:
        misfit = pa.array([text is not None and not _fits(text, target) for text in column.values.to_pylist()])
        column.misfits = _indices(misfit)
        column.values = _without(column.values, misfit).cast(target)
    return column


def _fits(text: str, target: pa.DataType) -> bool:
    whole, _, fraction = text.lstrip("-").partition(".")
    return len(fraction) <= target.scale and len(whole.lstrip("0")) <= target.precision - target.scale


def _without(values: pa.Array, mask: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(mask.fill_null(False), pa.scalar(None, values.type), values)


def _indices(mask: pa.Array) -> Indices:
    import numpy as np

    return np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))


def _finding(plan: ColumnPlan, reason: str, detail: str, rows: Indices) -> Finding:
    return Finding(plan.name, reason, f"{plan.type_name}: {detail}", rows)


def _row_text(batch: pa.RecordBatch, plans: Sequence[ColumnPlan], index: int) -> dict[str, str | None]:
    return {plan.name: _value_text(values, plan, index) for values, plan in zip(batch.columns, plans, strict=True)}


def _value_text(values: Any, plan: ColumnPlan, index: int) -> str | None:
    import pyarrow as pa

    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if not values[index].is_valid:
        return None
    one = values.slice(index, 1)
    if plan.wire == "numeric":
        return numeric_text(one[0].as_py())
    if plan.wire == "uuid":
        return uuid_text(one)[0].as_py()
    if plan.wire == "date":
        return date_text(one.view(pa.int32())[0].as_py())
    if plan.wire == "timestamp":
        return timestamp_text(one.view(pa.int64())[0].as_py(), with_zone=plan.arrow.tz is not None)
    return special_text(one[0].as_py())
