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
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

from tallyclerk.contracts.model import Column, Contract, Rule
from tallyclerk.contracts.physical_types import lookup, spell
from tallyclerk.contracts.projections import arrow_schema, duckdb_output, quoted
from tallyclerk.contracts.row_rules import text_literal

if TYPE_CHECKING:
    import duckdb
    import msgspec
    import pyarrow as pa

_DIRECT: dict[str, Any] = {
    "text": str,
    "boolean": bool,
    "double": float,
    "smallint": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
"""Kinds whose JSON form is their value; for whole numbers, their bounds."""
_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ISO_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_TIME = _ISO_DATE + r"[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"
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
        table = self._raw_table(records, ordinals)
        rows, kept, broken = self._typed(table)
        if broken:
            raws = msgspec.json.decode(data, type=list[msgspec.Raw])
            problems += [Problem(*problem, _text(raws[problem[0]])) for problem in broken]
            problems.sort(key=lambda problem: problem.ordinal)
        return PageRows(count, rows, kept, tuple(problems))

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        return self.contract.source_columns

    @cached_property
    def _types(self) -> dict[str, Any]:
        """Column → the type its JSON is decoded as."""
        return {column.name: _decoded_as(column) for column in self._columns}

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

        text, found = _text(raw), []
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
                shown = _text(value)[:_LONGEST_SHOWN]
                found.append(Problem(ordinal, column.name, "type", f"{shown} is not a {column.type}", text))
        return found

    def _raw_table(self, records: list[Any], ordinals: Sequence[int]) -> pa.Table:
        """Direct kinds as they are, the others as text."""
        import pyarrow as pa

        arrays, names = [pa.array(ordinals, pa.int32())], [_ORDINAL]
        for index, column in enumerate(self._columns):
            name = f"c{index}"
            values = [getattr(record, name) for record in records]
            if column.kind not in _DIRECT:
                values = [None if value is None else _scalar_text(value) for value in values]
            arrays.append(pa.array(values, _raw_type(column)))
            names.append(column.name)
        return pa.table(arrays, names=names)

    def _typed(self, table: pa.Table) -> tuple[pa.Table, Sequence[int], list[tuple[int, str, str, str]]]:
        """Rows that fit, their ordinals, and of the others (ordinal, column, reason, detail)."""
        connection = self._connection
        connection.register("page", table)
        try:
            found = connection.execute(self._query).to_arrow_table()
            ordinals = found.column(_ORDINAL).to_pylist()
            rows = found.drop_columns([_ORDINAL]).cast(self.schema)
            if len(ordinals) == table.num_rows:
                return rows, ordinals, []
            broken = connection.execute(self._problem_query).fetchall()
        finally:
            connection.unregister("page")
        return rows, ordinals, [(ordinal, *problem.values()) for ordinal, listed in broken for problem in listed]

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        import duckdb

        # pages are small: a second thread would only cost its start
        connection = duckdb.connect(config={"threads": "1", "memory_limit": "400MB", "enable_external_access": "false"})
        connection.execute("SET TimeZone = 'UTC'")
        return connection

    @cached_property
    def _typed_source(self) -> str:
        parts = [quoted(_ORDINAL)]
        for column in self._columns:
            if column.kind in _DIRECT:
                parts.append(quoted(column.name))
            else:
                parts.append(f"{quoted(column.name)} AS {_text_name(column.name)}")
                parts.append(f"{_cast(column)} AS {quoted(column.name)}")
        query = f"SELECT {', '.join(parts)} FROM page"  # noqa: S608 - quoted names
        derived = [f"{column.derived} AS {quoted(column.name)}" for column in self.contract.columns if column.derived]
        return f"SELECT *, {', '.join(derived)} FROM ({query})" if derived else query  # noqa: S608

    @cached_property
    def _fits(self) -> str:
        conditions = [f"NOT ({misfit})" for column in self._columns if (misfit := _misfit(column))]
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
            _problem(column.name, "type", misfit, _text_name(column.name), f"is not a {column.type}")
            for column in self._columns
            if (misfit := _misfit(column))
        ]
        for rule in self.rules:
            reason = "required" if rule.check == "required" else f"rule:{rule.id}"
            violation = rule.violation
            column = next((column for column in self._columns if column.name == rule.column), None)
            if rule.check == "required" and column and column.kind not in _DIRECT:
                violation += f" AND {_text_name(column.name)} IS NULL"  # a value of the wrong type is no empty one
            value = f"CAST({quoted(rule.column)} AS VARCHAR)" if rule.column else "NULL"
            problems.append(_problem(rule.column or "", reason, violation, value, rule.message))
        return (
            f"SELECT {quoted(_ORDINAL)}, list_filter([{', '.join(problems)}], lambda problem: problem IS NOT NULL) "  # noqa: S608
            f"FROM ({self._typed_source}) WHERE NOT ({self._fits}) ORDER BY {quoted(_ORDINAL)}"
        )


def raw_digest(text: str) -> str:
    """What a record without a usable key is known again by."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _decoded_as(column: Column) -> Any:
    import msgspec

    kind = _DIRECT.get(column.kind)
    if isinstance(kind, tuple):
        return Annotated[int, msgspec.Meta(ge=kind[0], le=kind[1])] | None
    if kind is not None:
        return kind | None
    # a decimal's own digits; Raw takes null as well
    return msgspec.Raw if column.kind == "decimal" else str | None


def _raw_type(column: Column) -> pa.DataType:
    import pyarrow as pa

    return pa.type_for_alias(lookup(column.type).arrow) if column.kind in _DIRECT else pa.string()


def _scalar_text(value: Any) -> str | None:
    """A string's own text, or the text of a JSON number."""
    if isinstance(value, str):
        return value
    text = _text(value)
    return None if text == "null" else text.strip('"')


def _text(raw: Any) -> str:
    return bytes(raw).decode("utf-8", errors="replace")


def _text_name(name: str) -> str:
    return quoted(f"text of {name}")


def _cast(column: Column) -> str:
    name, duckdb_type = quoted(column.name), spell(lookup(column.type).duckdb, column.type)
    if column.kind == "bytes":
        return f"TRY(from_base64({name}))"
    if column.text_format:
        return f"TRY_CAST(try_strptime({name}, {text_literal(column.text_format)}) AS {duckdb_type})"
    if column.kind == "timestamp":
        return f"TRY_CAST({name} AS TIMESTAMP WITH TIME ZONE) AT TIME ZONE 'UTC'"
    return f"TRY_CAST({name} AS {duckdb_type})"


def _misfit(column: Column) -> str:
    """TRUE (never NULL) for a text that is not a plainly written value of the type; "" for kinds that JSON has itself."""
    text, value = _text_name(column.name), quoted(column.name)
    match column.kind:
        case kind if kind in _DIRECT:
            return ""
        case "uuid":
            form = _UUID
        case "decimal":
            form = "-?[0-9]+" + (f"(\\.[0-9]{{1,{column.scale}}})?" if column.scale else "")
        case "date" | "timestamp" | "timestamptz" if column.text_format:
            form = ".*[0-9].*"  # `infinity` and `epoch` are read under any format
        case "date":
            form = _ISO_DATE
        case "timestamp" | "timestamptz":
            form = _ISO_TIME
        case _:
            form = ".*"
    return f"{text} IS NOT NULL AND ({value} IS NULL OR NOT regexp_full_match({text}, {text_literal(form)}))"


def _problem(column: str, reason: str, violation: str, value: str, message: str) -> str:
    shown = f"coalesce('''' || left({value}, {_LONGEST_SHOWN}) || ''' ', '')"
    return (
        f"CASE WHEN {violation} THEN {{'column': {text_literal(column)}, 'reason': {text_literal(reason)}, "
        f"'detail': {shown} || {text_literal(message)}}} END"
    )
