"""Keys of messages → rows of the key's columns, for tombstones, which say nothing else.

The forms are Flink's, a JSON object of the key's columns, and those of :mod:`tallyclerk.sinks.kafka_encoding`: the plain text
of one column, or a JSON array of several.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tallyclerk.sources.kafka_decoding import DecodedMessages, JsonObjects

if TYPE_CHECKING:
    import pyarrow as pa


class MessageKeys:
    """Reads keys.

    :param target: the key's columns. :param uuids: those that hold UUIDs.
    """

    def __init__(self, target: pa.Schema, uuids: Sequence[str] = ()) -> None:
        self.target = target
        self._objects = JsonObjects(target, uuids)

    def decode(self, keys: Sequence[bytes]) -> DecodedMessages:
        """Rows of ``target``; a key that is none of them is found, as a value would be."""
        return self._objects.decode([self._as_object(key) for key in keys])

    def _as_object(self, key: bytes) -> bytes:
        """A key as a JSON object; one of no known form as it is, for the decoder to refuse."""
        if key[:1] == b"{":
            return key
        try:
            text = key.decode("utf-8")
            values = [self._typed(text)] if len(self.target) == 1 else json.loads(text)
            return json.dumps(dict(zip(self.target.names, values, strict=True))).encode()
        except (ValueError, TypeError):  # no UTF-8, no JSON, no array, or not as many values
            return key

    def _typed(self, text: str) -> object:
        import pyarrow.types as kinds

        kind = self.target.field(0).type
        return json.loads(text) if kinds.is_integer(kind) or kinds.is_boolean(kind) else text
