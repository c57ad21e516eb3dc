"""Rows → keys and values of messages, in columns: JSON, or Avro as Confluent frames it.

**Key**: the UTF-8 text of the key column (a number in decimal, a decimal with all its digits, a date or timestamp in
ISO 8601, bytes in Base64); of several key columns a JSON array of their values, ``["a",1]``. A key is never null: it says
which partition a row goes to, and which row a later one replaces.

**Value**: see :mod:`~tallyclerk.sinks.json_columns` and :mod:`~tallyclerk.sinks.avro_columns`. Confluent's frame before an
Avro body is a zero byte and the schema's id in the registry, four bytes, big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tallyclerk.exceptions import RecordError, SpecError
from tallyclerk.sinks.avro_columns import check_avro, encode_rows
from tallyclerk.sinks.json_columns import check_json, encode_arrays, encode_objects, texts
from tallyclerk.sinks.schema_registry import Register, SchemaRegistry, schema_id_for

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_ROWS = 16_384
"""Rows that are encoded at once: what they pass through stays in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Messages:
    """Keys and values of messages, row by row; chunked arrays of binary without nulls."""

    keys: pa.ChunkedArray
    values: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.keys)


class MessageEncoder(Protocol):
    """Makes messages of rows."""

    def encode(self, rows: pa.Table) -> Messages:
        """One message a row, in the rows' order.

        :raises RecordError: a row has no key, or no value where the schema demands one.
        :raises SpecError: the rows are not of the encoder's schema.
        """

    def keys(self, rows: pa.Table) -> pa.ChunkedArray:
        """The keys alone, for tombstones: the other columns may hold anything.

        :raises RecordError: a row has no key.
        """


class JsonEncoder:
    """One JSON object a message.

    :param schema: of the rows. :param key: the key's columns.
    :raises SpecError: a key column that is not there, or a column of a type without JSON form.
    """

    def __init__(self, schema: pa.Schema, key: Sequence[str]) -> None:
        check_json(schema)
        self._schema, self._key = schema, checked_key(schema, key)

    def encode(self, rows: pa.Table) -> Messages:
        return _encode(rows, self._schema, self._key, encode_objects)

    def keys(self, rows: pa.Table) -> pa.ChunkedArray:
        return _keys(rows, self._schema, self._key)


class AvroEncoder:
    """Confluent-framed Avro, the bytes of ``AvroSerializer``. The registry is asked here, before the first byte.

    :param schema: of the rows. :param key: the key's columns.
    :param topic: its values' subject is ``<topic>-value``.
    :param avro: the Avro record, as :func:`~tallyclerk.contracts.avro_projection.avro_schema` makes it of a contract; None
        makes one of ``schema``, called like the topic.
    :param register: ``never``: the schema must be registered already. ``if_compatible``: it is registered when it is new
        and the subject's compatibility rule lets it pass.
    :raises SpecError: a schema that is not registered, incompatible (with the registry's reason), or not that of the rows.
    :raises ServiceUnavailableError: the registry is away.
    """

    def __init__(
        self,
        schema: pa.Schema,
        key: Sequence[str],
        *,
        registry: SchemaRegistry,
        topic: str,
        avro: Mapping[str, Any] | None = None,
        register: Register = "never",
    ) -> None:
        from tallyclerk.contracts.avro_projection import avro_schema_of

        if avro is None:
            avro = avro_schema_of(schema, name=topic.replace("-", "_").replace(".", "_"), namespace=None)
        check_avro(schema, avro)
        self._schema, self._key = schema, checked_key(schema, key)
        self.schema_id = schema_id_for(registry, value_subject(topic), avro, register=register)
        self._header = struct.pack(">bI", 0, self.schema_id)

    def encode(self, rows: pa.Table) -> Messages:
        return _encode(rows, self._schema, self._key, lambda batch: encode_rows(batch, header=self._header))

    def keys(self, rows: pa.Table) -> pa.ChunkedArray:
        return _keys(rows, self._schema, self._key)


def value_subject(topic: str) -> str:
    """The registry's subject of a topic's values (Confluent's TopicNameStrategy)."""
    return f"{topic}-value"


def checked_key(schema: pa.Schema, key: Sequence[str]) -> tuple[str, ...]:
    """:raises SpecError: no key column at all, or one that the schema does not have."""
    missing = [name for name in key if name not in schema.names]
    if missing or not key:
        named = f"key columns {missing} are not among" if missing else "no key column is named; take one or more of"
        raise SpecError(f"The messages' {named} {schema.names}. Correct the contract's kafka key.")
    return tuple(key)


def key_texts(rows: pa.RecordBatch, key: Sequence[str]) -> pa.Array:
    """The messages' keys.

    :raises RecordError: a row whose key is null.
    """
    columns = [rows.column(name) for name in key]
    for name, values in zip(key, columns, strict=True):
        if values.null_count:
            raise RecordError(
                f"{values.null_count:,} of {len(values):,} rows have no value in the key column {name!r}. "
                "Nothing was sent; reject these rows, or choose another key."
            )
    return texts(columns[0]) if len(columns) == 1 else encode_arrays(columns)


def _encode(
    rows: pa.Table, schema: pa.Schema, key: Sequence[str], values_of: Callable[[pa.RecordBatch], pa.Array]
) -> Messages:
    import pyarrow as pa

    if rows.schema.names != schema.names:
        raise SpecError(f"The rows have the columns {rows.schema.names}, the encoder was made for {schema.names}.")
    keys, values = [], []
    for batch in _batches(rows, schema):
        keys.append(key_texts(batch, key).cast(pa.binary()))
        values.append(values_of(batch).cast(pa.binary()))
    return Messages(pa.chunked_array(keys, pa.binary()), pa.chunked_array(values, pa.binary()))


def _keys(rows: pa.Table, schema: pa.Schema, key: Sequence[str]) -> pa.ChunkedArray:
    import pyarrow as pa

    own = pa.schema([schema.field(name) for name in key])
    keys = [key_texts(batch, key).cast(pa.binary()) for batch in _batches(rows.select(list(key)), own)]
    return pa.chunked_array(keys, pa.binary())


def _batches(rows: pa.Table, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows in the encoder's types, a few at a time."""
    import pyarrow as pa

    try:
        typed = rows if rows.schema.equals(schema) else rows.cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise RecordError(f"The rows do not fit the encoder's schema: {error}. Nothing was sent.") from error
    return (batch for batch in typed.to_batches(max_chunksize=CHUNK_ROWS) if batch.num_rows)
