"""Messages as text that people can correct: JSON objects of the contract's columns, whatever the topic's own format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from tallyclerk.sources.kafka_decoding import JsonObjects, MessageDecoder
from tallyclerk.sources.message_rules import RowRules, judged

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts import Contract


def message_schema(contract: Contract, *, change_events: bool) -> pa.Schema:
    """The columns that a message brings."""
    from tallyclerk.contracts.changes import change_schema
    from tallyclerk.contracts.projections import arrow_schema

    return change_schema(contract) if change_events else arrow_schema(contract, derived=False)


def uuid_columns(contract: Contract) -> list[str]:
    """Names of the columns that hold UUIDs."""
    return [column.name for column in contract.source_columns if column.kind == "uuid"]


def text_of(value: bytes, decoder: MessageDecoder | None) -> str | None:
    """A message as JSON, None where it is nothing of the kind.

    :param decoder: of a topic in Avro; None where the message itself should be JSON. A value that is missing stays
        missing when the decoder's columns may be null.
    """
    if decoder is None:
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            return None
        return text if text.strip() and all(sign.isprintable() or sign in "\t\r\n" for sign in text) else None
    from tallyclerk.sinks.json_columns import encode_objects

    rows = decoder.decode([value]).rows
    return encode_objects(rows)[0].as_py() if rows.num_rows else None


def rows_of(texts: Sequence[str], contract: Contract, *, change_events: bool) -> tuple[pa.RecordBatch, list[list[str]]]:
    """Corrected messages as rows to be sent, judged as a load of the topic judges them.

    :param texts: a JSON object each. Derived columns may stand in it, and are derived anew.
    :return: the rows of those that fit, in their order; and, for each text, what is wrong with it.
    """
    import numpy as np

    decoder = JsonObjects(message_schema(contract, change_events=change_events), uuid_columns(contract))
    rules = None if change_events else RowRules(contract)
    known = {*decoder.target.names, *(() if rules is None else rules.schema.names)}
    wrong: list[list[str]] = [_unknown(text, known) for text in texts]
    values = [text.encode("utf-8", "surrogatepass") for text in texts]
    with rules or nullcontext():
        rows, _, findings = judged(decoder, rules, values, np.arange(len(texts)))
    for finding in findings:
        for place in finding.rows:
            wrong[place].append(f"{finding.column} {finding.reason}: {finding.detail}".strip())
    return rows, wrong


def _unknown(text: str, known: set[str]) -> list[str]:
    """Members that a reader of the topic would pass over: in a correction a slip of the pen."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return []  # the decoder says it better
    if not isinstance(content, dict):
        return []
    return [f"{name!r} is no column of the contract" for name in content if name not in known]
