"""Avro bodies → columns of the contract, a field at a time for all messages (Avro 1.12: binary encoding, schema resolution).

A writer's schema is compiled once. Its fields are then read in their order; those that the contract has no column for are only
stepped over. A column that the writer does not know is null, where null is allowed. fastavro, which builds a dictionary for each
message, needs about ten times the CPU; pyruhvro 0.4 panics on decimals and loses a batch for one bad message.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tallyclerk.sources import message_values as values_of
from tallyclerk.sources.avro_bytes import MessageBytes
from tallyclerk.sources.avro_schemas import PER_SECOND, Step, steps_of
from tallyclerk.sources.message_findings import Findings
from tallyclerk.sources.message_values import Converted

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.sources.avro_bytes import Places


class AvroDecoder:
    """Reads messages of one writer's schema as rows of ``target``.

    :param writer: the writer's schema, a record.
    :param target: the columns to make; a field that is not nullable must not be null.
    :param uuids: columns of ``target`` that hold UUIDs.
    :raises UnreadableSchemaError: see :func:`~tallyclerk.sources.avro_schemas.steps_of`.
    """

    def __init__(self, writer: Any, target: pa.Schema, uuids: Sequence[str] = ()) -> None:
        self._target = target
        self._steps = steps_of(writer, target, uuids)

    def decode(self, data: MessageBytes, begins: Places, ends: Places, findings: Findings) -> list[pa.Array]:
        """The target's columns, for the bodies between ``begins`` and ``ends``; rows with findings hold noise."""
        import numpy as np
        import pyarrow as pa

        at = begins.copy()
        every = np.arange(len(at))
        columns: dict[str, pa.Array] = {}
        for step in self._steps:
            reading = _Reading(data, step, findings)
            at, values = reading.field(at, ends, every)
            if step.column is not None:
                columns[step.name] = values
        over = np.flatnonzero(at < ends)
        findings.add(over, column="", reason="length", detail="bytes are left after the last field", broken=True)
        return [
            columns[field.name] if field.name in columns else pa.nulls(len(begins), field.type)
            for field in self._target
        ]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One field of one batch."""

    data: MessageBytes
    step: Step
    findings: Findings

    def field(self, at: Places, ends: Places, rows: Places) -> tuple[Places, Any]:
        """New positions, and the column (None when it is stepped over)."""
        import numpy as np

        if self.step.null_branch is None:
            return self._values(at, ends, rows)
        branch, width = self.data.longs(at)
        at = self._moved(at, width, ends, rows)
        present = 1 - self.step.null_branch
        if (branch == present).all():
            return self._values(at, ends, rows)
        wrong = np.flatnonzero((branch != 0) & (branch != 1))
        self.findings.add(
            rows[wrong], column=self.step.name, reason="union", detail="a branch that the schema lacks", broken=True
        )
        held = np.flatnonzero(branch == present)
        moved, values = self._values(at[held], ends[held], rows[held])
        at[held] = moved
        return at, None if values is None else _spread(values, held, len(at))

    def _values(self, at: Places, ends: Places, rows: Places) -> tuple[Places, Any]:
        import numpy as np

        kind, data, wanted = self.step.type.kind, self.data, self.step.column is not None
        if kind == "null":
            return at, self._converted(None, rows, len(at)) if wanted else None
        if kind in ("int", "long", "enum"):
            values, width = data.longs(at)
            moved = self._moved(at, width, ends, rows)
            return moved, self._converted(values, rows, len(at)) if wanted else None
        if kind == "boolean":
            flags = data.bytes[at]
            wrong = np.flatnonzero(flags > 1)
            moved = self._moved(at, 1, ends, rows)
            self.findings.add(
                rows[wrong], column=self.step.name, reason="type", detail="is neither true nor false", broken=True
            )
            return moved, self._converted(flags, rows, len(at)) if wanted else None
        if kind in ("float", "double"):
            size = 4 if kind == "float" else 8
            numbers = data.floats(at, size) if wanted else None
            moved = self._moved(at, size, ends, rows)
            return moved, self._converted(numbers, rows, len(at)) if wanted else None
        lengths: Any = self.step.type.size
        if kind != "fixed":
            lengths, width = data.longs(at)
            at = self._moved(at, width, ends, rows)
            if (lengths < 0).any():
                lengths = np.where(lengths < 0, ends - at + 1, lengths)  # which is cut off
        moved = self._moved(at, lengths, ends, rows)
        return moved, self._converted((at, moved), rows, len(at)) if wanted else None

    def _moved(self, at: Places, width: Any, ends: Places, rows: Places) -> Places:
        """Positions after a value; a message that ends within it is broken and stays at its end from then on."""
        import numpy as np

        short = width > ends - at
        if not short.any():
            return at + width
        self.findings.add(
            rows[np.flatnonzero(short)],
            column=self.step.name, reason="truncated", detail="the message ends within it", broken=True,
        )  # fmt: skip
        return np.where(short, ends, at + width)

    def _converted(self, raw: Any, rows: Places, count: int) -> pa.Array:
        import numpy as np

        column = self.step.column
        assert column is not None
        converted = _convert(self.data, self.step, raw, count, column.type)
        if converted.misfits is not None:
            self.findings.add(
                rows[np.flatnonzero(converted.misfits)],
                column=column.name, reason="type", detail=f"does not fit {column.type}",
            )  # fmt: skip
        return converted.values


def _convert(data: MessageBytes, step: Step, raw: Any, count: int, target: pa.DataType) -> Converted:
    """What was read, as the column's type; :func:`~tallyclerk.sources.avro_schemas.steps_of` has let the pair pass."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.types as kinds

    writer = step.type
    if writer.kind == "null":
        return Converted(pa.nulls(count, target))
    if writer.kind == "boolean":
        return Converted(pa.array(raw == 1))
    if writer.kind in ("float", "double"):
        return Converted(pa.array(raw))
    if writer.kind == "enum":
        outside = (raw < 0) | (raw >= len(writer.symbols))
        symbols = pa.array(writer.symbols, pa.string()).take(pa.array(np.where(outside, 0, raw)))
        return Converted(symbols, outside if outside.any() else None)
    if writer.kind in ("int", "long"):
        if kinds.is_timestamp(target):
            return values_of.instants(raw, target, per_second=PER_SECOND[writer.meaning])
        if kinds.is_date32(target):
            return values_of.days(raw, target)
        if kinds.is_floating(target):
            return Converted(pa.array(raw.astype(np.float64)))
        return values_of.integers(raw, target)
    begins, ends = raw
    if writer.meaning == "decimal":
        high, low, longer = data.unscaled(ends, ends - begins)
        converted = values_of.decimals(high, low, target, scale=writer.scale)
        if not len(longer):
            return converted
        misfits = np.zeros(count, np.bool_) if converted.misfits is None else converted.misfits
        misfits[longer] = True
        return Converted(converted.values, misfits)
    if writer.kind == "fixed" and step.is_uuid:
        return values_of.uuids_of_bytes(data.matrix(begins, writer.size))
    content = data.slices(begins, ends)
    if kinds.is_binary(target):
        return Converted(content)
    text = values_of.texts(content)
    if kinds.is_string(target) and not step.is_uuid:
        return text
    filled = text.values if text.misfits is None else text.values.fill_null("")
    inner = values_of.uuids(filled) if step.is_uuid else values_of.parsed(filled, target)
    if text.misfits is None:
        return inner
    return Converted(inner.values, text.misfits if inner.misfits is None else text.misfits | inner.misfits)


def _spread(values: pa.Array, held: Places, count: int) -> pa.Array:
    """The values at their rows, null elsewhere."""
    import numpy as np
    import pyarrow as pa

    if not len(held):
        return pa.nulls(count, values.type)
    places = np.zeros(count, np.int32)
    absent = np.ones(count, np.bool_)
    places[held] = np.arange(len(held), dtype=np.int32)
    absent[held] = False
    return values.take(pa.array(places, mask=absent))
