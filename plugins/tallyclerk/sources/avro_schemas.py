"""A writer's Avro schema against the contract's columns (Avro 1.12, "schema resolution"): what is read, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

_TICKS = {"timestamp-millis": 1_000, "timestamp-micros": 1_000_000, "timestamp-nanos": 1_000_000_000}
PER_SECOND = {
    **_TICKS,
    **{f"local-{name}": ticks for name, ticks in _TICKS.items()},
    # what Kafka Connect says instead
    "org.apache.kafka.connect.data.Timestamp": 1_000,
    "io.debezium.time.Timestamp": 1_000,
    "io.debezium.time.MicroTimestamp": 1_000_000,
    "io.debezium.time.NanoTimestamp": 1_000_000_000,
}
_DAYS = ("date", "org.apache.kafka.connect.data.Date", "io.debezium.time.Date")
_READABLE = ("int", "long", "float", "double", "boolean", "bytes", "string", "fixed", "enum", "null")


class UnreadableSchemaError(ValueError):
    """A writer's schema whose messages cannot become rows of the contract; every one of them is rejected with this."""


@dataclass(frozen=True, slots=True)
class WriterType:
    """One type of a writer's schema.

    :param kind: Avro's name of it. :param meaning: its logical type, or Connect's name.
    :param size: bytes of a fixed. :param symbols: of an enum. :param scale: of a decimal.
    """

    kind: str
    meaning: str = ""
    size: int = 0
    symbols: tuple[str, ...] = ()
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """How to read one field of every message.

    :param null_branch: which branch of the field's union is null; None where it is no union.
    :param column: the contract's column, None for a field that is stepped over.
    """

    name: str
    type: WriterType
    null_branch: int | None = None
    column: pa.Field | None = None
    is_uuid: bool = False


def steps_of(writer: Any, target: pa.Schema, uuids: Sequence[str]) -> list[Step]:
    """How to read the writer's fields, in their order.

    :raises UnreadableSchemaError: the two do not fit by Avro's rules, or a field is an array, a map, a record or a union of more
        than null and one type.
    """
    if not isinstance(writer, Mapping) or writer.get("type") != "record":
        raise UnreadableSchemaError("the writer's schema is no record")
    named = _Named()
    steps = [_step(field, target, uuids, named) for field in writer.get("fields", ())]
    known = {step.name for step in steps}
    if missing := [field.name for field in target if not field.nullable and field.name not in known]:
        raise UnreadableSchemaError(f"the writer's schema has no field {', '.join(missing)}, which must not be empty")
    return steps


class _Named(dict[str, Mapping[str, Any]]):
    """Enums and fixeds by name: Avro defines each once and then calls it by its name."""

    def resolved(self, stated: Any) -> Any:
        if isinstance(stated, Mapping):
            if "name" in stated:
                self[str(stated["name"]).rpartition(".")[2]] = stated
            return stated
        return self.get(str(stated).rpartition(".")[2], stated) if stated not in _READABLE else stated


def _step(field: Mapping[str, Any], target: pa.Schema, uuids: Sequence[str], named: _Named) -> Step:
    name, stated, null_branch = str(field["name"]), field["type"], None
    if isinstance(stated, list):
        null_branch, stated = _branches(name, stated)
    writer = _writer_type(name, named.resolved(stated))
    column = target.field(name) if name in target.names else None
    step = Step(name, writer, null_branch, column, is_uuid=name in uuids)
    if column is not None:
        _check_fit(step)
        if not column.nullable and writer.kind == "null":
            raise UnreadableSchemaError(f"{name} is always null, and must not be empty")
    return step


def _branches(name: str, union: list[Any]) -> tuple[int | None, Any]:
    others = [branch for branch in union if branch != "null"]
    if len(union) == 1:
        raise UnreadableSchemaError(f"{name} is a union of one type, which is not read here")
    if len(others) != 1 or len(union) != 2:
        raise UnreadableSchemaError(f"{name} is a union of more than null and one type")
    return union.index("null"), others[0]


def _writer_type(name: str, stated: Any) -> WriterType:
    facts = stated if isinstance(stated, Mapping) else {"type": stated}
    kind = facts.get("type")
    if isinstance(kind, Mapping):  # {"type": {"type": "string"}} is legal
        return _writer_type(name, kind)
    if kind not in _READABLE:
        raise UnreadableSchemaError(f"{name} is of type {kind}, which has no column")
    meaning = facts.get("logicalType") or facts.get("connect.name") or ""
    return WriterType(
        kind=kind,
        meaning=str(meaning),
        size=int(facts.get("size", 0)),
        symbols=tuple(facts.get("symbols", ())),
        scale=int(facts.get("scale", 0)) if meaning == "decimal" else 0,
    )


def _check_fit(step: Step) -> None:
    """:raises UnreadableSchemaError: Avro's resolution rules, or our types, do not let this column be read from that type."""
    import pyarrow.types as kinds

    writer, column = step.type, step.column
    assert column is not None
    target = column.type
    text_like = writer.kind == "string" or (writer.kind == "bytes" and writer.meaning != "decimal")
    counts = writer.meaning not in PER_SECOND and writer.meaning not in _DAYS  # other meanings do not change the value
    fits: dict[Callable[[Any], bool], bool] = {
        kinds.is_string: text_like
        or (writer.kind == "fixed" and writer.size == 16 if step.is_uuid else writer.kind == "enum"),
        kinds.is_boolean: writer.kind == "boolean",
        kinds.is_integer: writer.kind in ("int", "long") and counts,
        kinds.is_floating: writer.kind in ("int", "long", "float", "double") and counts,
        kinds.is_decimal: (writer.meaning == "decimal" and writer.scale <= getattr(target, "scale", 0))
        or writer.kind == "string",
        kinds.is_date32: writer.meaning in _DAYS or writer.kind == "string",
        kinds.is_timestamp: writer.meaning in PER_SECOND or writer.kind == "string",
        kinds.is_binary: writer.kind in ("bytes", "string", "fixed") and writer.meaning != "decimal",
    }
    if writer.kind == "null" or any(answers(target) and fit for answers, fit in fits.items()):
        return
    stated = f"{writer.kind} ({writer.meaning})" if writer.meaning else writer.kind
    raise UnreadableSchemaError(f"{step.name} is written as {stated}, the column is {target}")
