"""A page's JSON → rows of the contract's types, and what is wrong with the others.

Types are taken at their word, nothing is converted: a text column wants a JSON string, a number column a JSON number, a
boolean ``true`` or ``false``. Three kinds have more than one written form: a decimal may be a number or, as many APIs write
it lest a reader make a double of it, a string of its digits (read as digits either way, never through a double); a date or
time is a string in the contract's format, else in ISO 8601, with or without an offset (then it is UTC); bytes are Base64.
A key that is absent is null, a key that the contract does not know is left out.

The JSON is decoded at once into typed columns; only a page with a record that does not fit is looked at record by record.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.model import Column, Contract, Rule
from tallyclerk.contracts.projections import arrow_schema, duckdb_output, quoted
from tallyclerk.contracts.row_rules import text_literal
from tallyclerk.sources.rest_types import (
    cast_of,
    decoded_as,
    json_text,
    misfit_of,
    scalar_text,
    text_name,
)

if TYPE_CHECKING:
    import duckdb
    import msgspec
    import pyarrow as pa

_ORDINAL = "record ordinal"
_LONGEST_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken promise of one record. :param ordinal: of the record in its page, from 0."""

    ordinal: int
    column: str
    reason: str
    detail: str
    raw_text: str


@dataclass(frozen=True, slots=True)
class PageRows:
    """A page's records.

    :param count: all of them.
    :param rows: those that fit, in the contract's schema, derived columns included.
    :param ordinals: which records of the page these are.
    :param problems: of the others.
    """

    count: int
    rows: pa.Table
    ordinals: Sequence[int]
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class RowReader:
    """Reads pages of one contract.

    :raises SpecError: (when used) the contract has a type without a JSON form.
    """

    contract: Contract

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.contract.row_rules if rule.on_violation != "warn")

    @cached_property
    def schema(self) -> pa.Schema:
        return arrow_schema(self.contract)

    def read(self, data: msgspec.Raw | bytes) -> PageRows:
        """:param data: a JSON array of records."""
        import msgspec

        problems: list[Problem] = []
        try:
            records = self._decoder.decode(data)
            ordinals: Sequence[int] = range(len(records))
        except msgspec.ValidationError:
            records, ordinals, problems = self._one_by_one(data)
        count = len(records) + len({problem.ordinal for problem in problems})
        if not records:
            return PageRows(count, self.schema.empty_table(), (), tuple(problems))
        rows, kept, broken = self._typed(records, ordinals)
        if broken:
            raws = msgspec.json.decode(data, type=list[msgspec.Raw])
            problems += [Problem(*problem, json_text(raws[problem[0]])) for problem in broken]
            problems.sort(key=lambda problem: problem.ordinal)
        return PageRows(count, rows, kept, tuple(problems))

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        return self.contract.source_columns

    @cached_property
    def _types(self) -> dict[str, Any]:
        """Column → the type its JSON is decoded as."""
        return {column.name: decoded_as(column) for column in self._columns}

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        import msgspec

        # names of our own, as a contract's may be words that a struct does not take
        fields = [(f"c{index}", self._types[column.name], None) for index, column in enumerate(self._columns)]
        names = {f"c{index}": column.name for index, column in enumerate(self._columns)}
        record = msgspec.defstruct("Record", fields, rename=names, frozen=True, gc=False)
        return msgspec.json.Decoder(list[record])  # type: ignore[valid-type]

    def _one_by_one(self, data: msgspec.Raw | bytes) -> tuple[list[Any], list[int], list[Problem]]:
        import msgspec

        record_type = self._decoder.type.__args__[0]
        fitting, ordinals, problems = [], [], []
        for ordinal, raw in enumerate(msgspec.json.decode(data, type=list[msgspec.Raw])):
            try:
                fitting.append(msgspec.json.decode(raw, type=record_type))
                ordinals.append(ordinal)
            except msgspec.ValidationError:
                problems += self._type_problems(ordinal, raw)
        return fitting, ordinals, problems

    def _type_problems(self, ordinal: int, raw: msgspec.Raw) -> list[Problem]:
        import msgspec

        text, found = json_text(raw), []
        try:
            values = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        except msgspec.ValidationError:
            return [Problem(ordinal, "", "record", "is not a JSON object", text)]
        for column in self._columns:
            value = values.get(column.name)
            try:
                if value is not None:
                    msgspec.json.decode(value, type=self._types[column.name])
            except msgspec.ValidationError:
                shown = json_text(value)[:_LONGEST_SHOWN]
                found.append(Problem(ordinal, column.name, "type", f"{shown} is not a {column.type}", text))
        return found

    def _texts(self, records: list[Any]) -> str:
        """Every value as text, column by column, in JSON: ``{"c0": ["a", null], ...}``."""
        import msgspec

        columns = {}
        for index, column in enumerate(self._columns):
            name = f"c{index}"
            values = [getattr(record, name) for record in records]
            if column.kind != "text":
                values = [None if value is None else scalar_text(value) for value in values]
            columns[name] = values
        return msgspec.json.encode(columns).decode()

    def _typed(
        self, records: list[Any], ordinals: Sequence[int]
    ) -> tuple[pa.Table, Sequence[int], list[tuple[int, str, str, str]]]:
        """Rows that fit, their ordinals, and of the others (ordinal, column, reason, detail).

        The texts go to the engine as a literal: for a parameter, or to scan an Arrow table, it would import pandas, which
        costs more than the whole page.
        """
        self._connection.execute(f"SET VARIABLE page = {text_literal(self._texts(records))}")
        found = self._connection.execute(self._query).to_arrow_table()
        kept = [ordinals[index] for index in found.column(_ORDINAL).to_pylist()]
        rows = found.drop_columns([_ORDINAL]).cast(self.schema)
        if len(kept) == len(records):
            return rows, kept, []
        broken = self._connection.execute(self._problem_query).fetchall()
        return rows, kept, [(ordinals[index], *problem.values()) for index, listed in broken for problem in listed]

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        # pages are small: a second thread would only cost its start
        connection = duckdb.connect(config={"threads": "1", "memory_limit": "400MB", "enable_external_access": "false"})
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    @cached_property
    def _typed_source(self) -> str:
        shape = json.dumps({f"c{index}": ["VARCHAR"] for index in range(len(self._columns))})
        lists = ", ".join(f"unnest(columns.c{i}) AS {quoted(c.name)}" for i, c in enumerate(self._columns))
        parts = [f"row_number() OVER () - 1 AS {quoted(_ORDINAL)}"]
        for column in self._columns:
            parts.append(f"{quoted(column.name)} AS {text_name(column.name)}")
            parts.append(f"{cast_of(column)} AS {quoted(column.name)}")
        query = (
            f"SELECT {', '.join(parts)} FROM "  # noqa: S608 - quoted names
            f"(SELECT {lists} FROM (SELECT from_json(getvariable('page'), {text_literal(shape)}) AS columns))"
        )
        derived = [f"{column.derived} AS {quoted(column.name)}" for column in self.contract.columns if column.derived]
        return f"SELECT *, {', '.join(derived)} FROM ({query})" if derived else query  # noqa: S608

    @cached_property
    def _fits(self) -> str:
        conditions = [f"NOT ({misfit})" for column in self._columns if (misfit := misfit_of(column))]
        conditions += [f"NOT coalesce({rule.violation}, false)" for rule in self.rules]
        return " AND ".join(conditions) or "true"

    @cached_property
    def _query(self) -> str:
        output = ", ".join(f"{form} AS {quoted(name)}" for name, form in duckdb_output(self.contract).items())
        return (
            f"SELECT {quoted(_ORDINAL)}, {output} FROM ({self._typed_source}) WHERE {self._fits} "  # noqa: S608
            f"ORDER BY {quoted(_ORDINAL)}"
        )

    @cached_property
    def _problem_query(self) -> str:
        problems = [
            _problem(column.name, "type", misfit, text_name(column.name), f"is not a {column.type}")
            for column in self._columns
            if (misfit := misfit_of(column))
        ]
        for rule in self.rules:
            reason = "required" if rule.check == "required" else f"rule:{rule.id}"
            violation = rule.violation
            if rule.check == "required" and rule.column in self._types:
                violation += f" AND {text_name(rule.column)} IS NULL"  # a value of the wrong type is no empty one
            value = f"CAST({quoted(rule.column)} AS VARCHAR)" if rule.column else "NULL"
            problems.append(_problem(rule.column or "", reason, violation, value, rule.message))
        return (
            f"SELECT {quoted(_ORDINAL)}, list_filter([{', '.join(problems)}], lambda problem: problem IS NOT NULL) "  # noqa: S608
            f"FROM ({self._typed_source}) WHERE NOT ({self._fits}) ORDER BY {quoted(_ORDINAL)}"
        )


def raw_digest(text: str) -> str:
    """What a record without a usable key is known again by."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _problem(column: str, reason: str, violation: str, value: str, message: str) -> str:
    shown = f"coalesce('''' || left({value}, {_LONGEST_SHOWN}) || ''' ', '')"
    return (
        f"CASE WHEN {violation} THEN {{'column': {text_literal(column)}, 'reason': {text_literal(reason)}, "
        f"'detail': {shown} || {text_literal(message)}}} END"
    )
