"""Values of messages → rows of a contract, a batch at a time; what does not become a row is found, with its reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tallyclerk.sources.avro_bytes import PADDING, MessageBytes
from tallyclerk.sources.avro_decoding import AvroDecoder
from tallyclerk.sources.avro_schemas import UnreadableSchemaError
from tallyclerk.sources.json_decoding import JsonDecoder
from tallyclerk.sources.message_findings import Finding, Findings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Indices = npt.NDArray[np.int64]

FRAME_BYTES = 5
"""Confluent's frame: a zero byte, and the schema's id in four bytes, big-endian."""


@dataclass(frozen=True, slots=True)
class DecodedMessages:
    """:param rows: of the good messages, in their order. :param kept: which messages these are. :param findings: of all others."""

    rows: pa.RecordBatch
    kept: Indices
    findings: tuple[Finding, ...]


class MessageDecoder(Protocol):
    """Makes rows of messages."""

    target: pa.Schema

    def decode(self, values: Sequence[bytes]) -> DecodedMessages:
        """Rows of ``target``. A batch holds less than 2 GiB.

        :raises TransientError: the registry is away.
        """


class FramedAvro:
    """Confluent-framed Avro of any number of writers' schemas.

    Findings: ``frame`` (not framed), ``schema_id`` (the registry has none of that id), ``schema`` (that schema's messages
    cannot become these rows), ``truncated``, ``length``, ``union``, ``type``, ``required``.

    :param target: the rows to make. :param uuids: its columns that hold UUIDs.
    :param schema_of: the registry's schema of an id, or None; asked once an id.
    """

    def __init__(
        self, target: pa.Schema, uuids: Sequence[str], schema_of: Callable[[int], Mapping[str, Any] | None]
    ) -> None:
        self.target, self._uuids, self._schema_of = target, tuple(uuids), schema_of
        self._decoders: dict[int, AvroDecoder | UnreadableSchemaError | None] = {}

    def decode(self, values: Sequence[bytes]) -> DecodedMessages:
        import numpy as np
        import pyarrow as pa

        padding = bytes(PADDING)
        data = MessageBytes(b"".join([padding, *values, padding]))
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        ends = PADDING + np.cumsum(lengths)
        begins = ends - lengths
        findings = Findings(len(values))
        framed = (lengths >= FRAME_BYTES) & (data.bytes[begins] == 0)
        findings.add(
            np.flatnonzero(~framed), column="", reason="frame", detail="is not framed as Confluent does", broken=True
        )
        ids = (data.words[begins + 1].byteswap() >> np.uint64(32)).astype(np.int64)
        rows, parts = [np.zeros(0, np.int64)], [pa.RecordBatch.from_pylist([], schema=_nullable(self.target))]
        for schema_id in np.unique(ids[framed]):
            places = np.flatnonzero(framed & (ids == schema_id))
            decoder = self._decoder(int(schema_id))
            if not isinstance(decoder, AvroDecoder):
                _reject_all(findings, places, int(schema_id), decoder)
                continue
            inner = Findings(len(places))
            columns = decoder.decode(data, begins[places] + FRAME_BYTES, ends[places], inner)
            _require(self.target, columns, inner)
            findings.take(inner, places)
            rows.append(places)
            parts.append(pa.RecordBatch.from_arrays(columns, schema=_nullable(self.target)))
        return _decoded(self.target, parts, np.concatenate(rows), findings)

    def _decoder(self, schema_id: int) -> AvroDecoder | UnreadableSchemaError | None:
        if schema_id not in self._decoders:
            writer = self._schema_of(schema_id)
            try:
                self._decoders[schema_id] = None if writer is None else AvroDecoder(writer, self.target, self._uuids)
            except UnreadableSchemaError as refusal:
                self._decoders[schema_id] = refusal
        return self._decoders[schema_id]


class JsonObjects:
    """One JSON object a message. Findings: ``json``, ``type``, ``required``.

    :param target: the rows to make. :param uuids: its columns that hold UUIDs.
    """

    def __init__(self, target: pa.Schema, uuids: Sequence[str] = ()) -> None:
        self.target = target
        self._decoder = JsonDecoder(target, uuids)

    def decode(self, values: Sequence[bytes]) -> DecodedMessages:
        import numpy as np
        import pyarrow as pa

        findings = Findings(len(values))
        columns = self._decoder.decode(values, findings)
        _require(self.target, columns, findings)
        part = pa.RecordBatch.from_arrays(columns, schema=_nullable(self.target))
        return _decoded(self.target, [part], np.arange(len(values)), findings)


def _reject_all(findings: Findings, rows: Indices, schema_id: int, refusal: UnreadableSchemaError | None) -> None:
    if refusal is None:
        reason, detail = "schema_id", f"the registry has no schema of id {schema_id}"
    else:
        reason, detail = "schema", f"schema {schema_id}: {refusal}"
    findings.add(rows, column="", reason=reason, detail=detail, broken=True)


def _require(target: pa.Schema, columns: Sequence[pa.Array], findings: Findings) -> None:
    import numpy as np

    for field, values in zip(target, columns, strict=True):
        if field.nullable or not values.null_count:
            continue
        absent = values.is_null().to_numpy(zero_copy_only=False)
        # a value that was there and did not fit may be null by now
        for finding in findings.found:
            if finding.column == field.name:
                absent[finding.rows] = False
        findings.add(np.flatnonzero(absent), column=field.name, reason="required", detail="must not be empty")


def _decoded(target: pa.Schema, parts: Sequence[pa.RecordBatch], rows: Indices, findings: Findings) -> DecodedMessages:
    """Put the parts' rows into the messages' order and leave out the bad ones."""
    import numpy as np
    import pyarrow as pa

    order = np.argsort(rows, kind="stable")
    order = order[~findings.bad[rows[order]]]
    filled = [part for part in parts if part.num_rows] or list(parts[:1])
    table = pa.Table.from_batches(filled)
    if len(filled) > 1 or len(order) != len(table):
        table = table.take(pa.array(order))
    kept = rows[order]
    batch = table.combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]
    return DecodedMessages(batch[0].cast(target), kept, tuple(findings.found))


def _nullable(schema: pa.Schema) -> pa.Schema:
    """What may be null before it is known who is rejected."""
    import pyarrow as pa

    return pa.schema([field.with_nullable(True) for field in schema])
