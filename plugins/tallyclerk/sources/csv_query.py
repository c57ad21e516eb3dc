"""The SQL by which DuckDB reads a CSV file under a contract.

Every column is read as text and then cast, because the engine's own typed reading coerces in silence: ``1.6`` becomes 2
in a BIGINT, ``1e3`` and `` 7 `` pass as a DECIMAL. A value is right when its cast gives the same text back, or when it
has the plain written form of its type.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tallyclerk.contracts import Contract
from tallyclerk.contracts.model import Column, CsvDialect, Rule
from tallyclerk.contracts.projections import duckdb_output, duckdb_types, quoted

_ISO_FORMATS = {"date": "%Y-%m-%d", "timestamp": "%Y-%m-%d %H:%M:%S"}
_PLAIN_INTEGER = r"-?[0-9]+"
_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def text_of(name: str) -> str:
    """The quoted name of a column's text as delivered."""
    return quoted(f"text of {name}")


@dataclass(frozen=True)
class CsvQuery:
    """Queries over one contract, dialect and set of filters.

    :param required: columns that must not be empty beyond the contract's own.
    :param filters: SQL conditions over the typed columns; a row that does not meet them all is filtered.
    """

    contract: Contract
    dialect: CsvDialect
    required: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        """Row rules that make a row unfit; a `warn` rule does not."""
        extra = tuple(
            Rule(
                id=f"{name}.required",
                kind="row",
                check="required",
                violation=f"{quoted(name)} IS NULL",
                message="must not be empty",
                on_violation="reject",
                column=name,
            )
            for name in self.required
        )
        return tuple(rule for rule in self.contract.row_rules if rule.on_violation != "warn") + extra

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.contract.source_columns)

    def reader(self, path: str) -> str:
        """``read_csv`` of one plain file; structural rejects go to the tables reject_errors and reject_scans."""
        dialect = self.dialect
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.names)
        return (
            f"read_csv({literal(path)}, columns={{{columns}}}, auto_detect=false, header={str(dialect.header).lower()}, "
            f"delim={literal(dialect.delimiter)}, quote={literal(dialect.quote)}, escape={literal(dialect.escape)}, "
            f"nullstr={literal(dialect.null_text)}, store_rejects=true, rejects_limit=0)"
        )

    def typed(self, path: str, *, numbered: bool = False) -> str:
        """Text and typed columns, derived ones too, of every record that has the right number of columns."""
        types = duckdb_types(self.contract)
        inner = [f"{quoted(name)} AS {text_of(name)}" for name in self.names]
        inner += [
            f"{_cast(column, types[column.name])} AS {quoted(column.name)}" for column in self.contract.source_columns
        ]
        if numbered:
            inner.append('row_number() OVER () AS "record number"')
        derived = [column for column in self.contract.columns if column.derived is not None]
        query = f"SELECT {', '.join(inner)} FROM {self.reader(path)}"
        if not derived:
            return query
        return (
            f"SELECT *, {', '.join(f'{column.derived} AS {quoted(column.name)}' for column in derived)} FROM ({query})"
        )

    @cached_property
    def fits(self) -> str:
        """TRUE for a record whose every value has its type and keeps every rule."""
        types = [check for column in self.contract.source_columns if (check := misfit(column))]
        conditions = [f"NOT ({check})" for check in types]
        conditions += [f"NOT coalesce({rule.violation}, false)" for rule in self.rules]
        return " AND ".join(conditions) or "true"

    @cached_property
    def kept(self) -> str:
        """TRUE for a fitting record that the filters let through."""
        return " AND ".join(f"coalesce(({condition}), false)" for condition in self.filters) or "true"

    @cached_property
    def output(self) -> str:
        return ", ".join(f"{form} AS {quoted(name)}" for name, form in duckdb_output(self.contract).items())

    def counts(self, path: str) -> str:
        """One row: records, those that fit, those that are kept, and newlines inside values."""
        newlines = " + ".join(
            f"coalesce(length({text_of(name)}) - length(replace({text_of(name)}, chr(10), '')), 0)"
            for name in self.names
        )
        return (
            f"SELECT count(*), count(*) FILTER ({self.fits}), count(*) FILTER ({self.fits} AND {self.kept}), "
            f"coalesce(sum({newlines}), 0) FROM ({self.typed(path)})"
        )

    def misfits(self, path: str) -> str:
        """Each record that does not fit: its ordinal, its text as a CSV record, and what is wrong with it."""
        problems = [
            f"CASE WHEN {check} THEN {_problem(column.name, 'type', text_of(column.name), f'is not a {column.type}')} END"
            for column in self.contract.source_columns
            if (check := misfit(column))
        ]
        problems += [
            f"CASE WHEN {self._own_violation(rule)} THEN "
            + _problem(
                rule.column or "",
                "required" if rule.check == "required" else f"rule:{rule.id}",
                text_of(rule.column) if rule.column in self.names else "NULL",
                rule.message,
            )
            + " END"
            for rule in self.rules
        ]
        text = f" || {literal(self.dialect.delimiter)} || ".join(self._field(name) for name in self.names)
        return (
            f'SELECT "record number", {text}, list_filter([{", ".join(problems)}], lambda problem: problem IS NOT NULL) '
            f'FROM ({self.typed(path, numbered=True)}) WHERE NOT ({self.fits}) ORDER BY "record number"'
        )

    def _own_violation(self, rule: Rule) -> str:
        """The rule's violation; a value that is there but not of its type is NULL and yet not an empty one."""
        if rule.check == "required" and rule.column in self.names:
            return f"{rule.violation} AND {text_of(rule.column)} IS NULL"
        return rule.violation

    def blank_lines_in_values(self, path: str) -> str:
        """One number: lines without any character inside quoted values, which are no blank lines of the file."""
        blanks = " + ".join(
            f"CASE WHEN contains({text_of(name)}, chr(10)) THEN len(list_filter("
            f"string_split({text_of(name)}, chr(10))[2:-2], lambda line: line IN ('', chr(13)))) ELSE 0 END"
            for name in self.names
        )
        return f"SELECT coalesce(sum({blanks}), 0) FROM ({self.typed(path)})"

    def _field(self, name: str) -> str:
        """A value written as it stood in the file; quoted again where it must have been quoted."""
        column, quote = text_of(name), self.dialect.quote
        plain = f"coalesce({column}, {literal(self.dialect.null_text)})"
        if not quote:
            return plain
        doubled = f"replace({column}, {literal(quote)}, {literal(self.dialect.escape + quote)})"
        needs = " OR ".join(
            f"contains({column}, {sign})" for sign in (literal(self.dialect.delimiter), literal(quote), "chr(10)")
        )
        return f"CASE WHEN {needs} THEN {literal(quote)} || {doubled} || {literal(quote)} ELSE {plain} END"


def misfit(column: Column) -> str:
    """TRUE (never NULL) for a text that is not a plainly written value of the column's type; "" for plain text."""
    text, value = text_of(column.name), quoted(column.name)
    same = f"CAST({value} AS VARCHAR) = {text}"
    match column.kind:
        case "text":
            return ""
        case "uuid":
            return f"{text} IS NOT NULL AND ({value} IS NULL OR NOT regexp_full_match({text}, {literal(_UUID)}))"
        case "smallint" | "int" | "bigint":
            # one character that could be cast can only be a digit
            good = f"strlen({text}) = 1 OR {same} OR regexp_full_match({text}, {literal(_PLAIN_INTEGER)})"
        case "decimal":
            fraction = f"(\\.[0-9]{{1,{column.scale}}})?" if column.scale else ""
            zero = "0." + "0" * column.scale if column.scale else "0"
            # zero is by far the commonest amount, and comparing with a constant costs a tenth of casting back
            good = (
                f"{text} = {literal(zero)} OR {same} OR regexp_full_match({text}, {literal(_PLAIN_INTEGER + fraction)})"
            )
        case "date" | "timestamp" if column.text_format in (None, _ISO_FORMATS[column.kind]):
            good = f"{same} AND {_in_calendar(value)}"
        case "date" | "timestamp" | "timestamptz":
            # `infinity` and `epoch` are read under any format
            good = f"regexp_matches({text}, '[0-9]') AND {_in_calendar(value)}"
        case "boolean":
            good = f"lower({text}) IN ('true', 'false', 't', 'f', '1', '0')"
        case "double":
            good = f"{text} = trim({text})"
        case _:
            good = "true"
    return f"{text} IS NOT NULL AND ({value} IS NULL OR NOT ({good}))"


def _in_calendar(value: str) -> str:
    """The years 1 to 9999: what Spark, Cassandra and Python hold; never infinity."""
    return f"{value} >= '0001-01-01' AND {value} < '9999-12-31'::DATE + 1"


def _cast(column: Column, duckdb_type: str) -> str:
    name = quoted(column.name)
    if column.kind == "text":
        return name
    if column.text_format and column.text_format != _ISO_FORMATS.get(column.kind):
        return f"TRY_CAST(try_strptime({name}, {literal(column.text_format)}) AS {duckdb_type})"
    return f"TRY_CAST({name} AS {duckdb_type})"


def _problem(column: str, reason: str, text: str, message: str) -> str:
    return (
        f"{{'column': {literal(column)}, 'reason': {literal(reason)}, "
        f"'detail': coalesce('''' || {text} || ''' ', '') || {literal(message)}}}"
    )


def duplicates(keys: Sequence[str], spools: str) -> str:
    """How many rows repeat the key of another."""
    return f"SELECT count(*) - count(DISTINCT ({', '.join(map(quoted, keys))})) FROM read_parquet({spools})"
