"""The SQL by which DuckDB reads a CSV file under a contract: every column as text, then cast and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tallyclerk.contracts import Contract
from tallyclerk.contracts.model import Column, CsvDialect, Rule
from tallyclerk.contracts.projections import duckdb_output, duckdb_types, quoted
from tallyclerk.sources.csv_values import cast, fitting, literal, stored, text_of


@dataclass(frozen=True, slots=True)
class Passed:
    """What went through a reading: records that have their columns, those that fit, and those of them that are kept."""

    records: int
    fitting: int
    kept: int


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

    def value(self, column: Column, duckdb_type: str) -> str:
        """A column's value of what the reader brings."""
        return cast(column, duckdb_type)

    def fitting(self, column: Column) -> str:
        """TRUE where the column is empty or a value of its type; "" where it always is."""
        return fitting(column)

    def stored(self, column: Column, form: str) -> str:
        """What is written for a value that fits; ``form`` is the same of any value."""
        return stored(column, form)

    def typed(self, path: str, *, numbered: bool = False) -> str:
        """Text and typed columns, derived ones too, of every record that has the right number of columns."""
        types = duckdb_types(self.contract)
        inner = [f"{quoted(name)} AS {text_of(name)}" for name in self.names]
        inner += [
            f"{self.value(column, types[column.name])} AS {quoted(column.name)}"
            for column in self.contract.source_columns
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
        conditions = [check for column in self.contract.source_columns if (check := self.fitting(column))]
        conditions += [f"({self._violation(rule)}) IS NOT TRUE" for rule in self.rules]
        return " AND ".join(conditions) or "true"

    @cached_property
    def kept(self) -> str:
        """TRUE for a fitting record that the filters let through."""
        return " AND ".join(f"coalesce(({condition}), false)" for condition in self.filters) or "true"

    @cached_property
    def output(self) -> str:
        """The columns as they are stored, of a record that fits."""
        forms = duckdb_output(self.contract)
        for column in self.contract.source_columns:
            forms[column.name] = self.stored(column, forms[column.name])
        return ", ".join(f"{form} AS {quoted(name)}" for name, form in forms.items())

    def rows(self, path: str, *, numbered: bool = False) -> str:
        """The rows to write. One filter stands on the other, so that the engine counts what each lets through."""
        number = ', "record number"' if numbered else ""
        fitting_rows = f"SELECT * FROM ({self.typed(path, numbered=numbered)}) WHERE {self.fits}"
        return f"SELECT {self.output}{number} FROM ({fitting_rows}) WHERE {self.kept}"

    def passed(self, counts: Sequence[int] | None) -> Passed | None:
        """What the counts of :meth:`rows` say: records, then what each filter let through. None where they say nothing."""
        return Passed(*counts) if counts is not None and len(counts) == 3 else None

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
            f"CASE WHEN NOT {check} THEN {_problem(column.name, 'type', text_of(column.name), f'is not a {column.type}')} END"
            for column in self.contract.source_columns
            if (check := self.fitting(column))
        ]
        problems += [
            f"CASE WHEN {self._violation(rule)} THEN "
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

    def _violation(self, rule: Rule) -> str:
        """The rule's violation; a value that is there but not of its type is NULL and yet not an empty one."""
        if rule.check == "required" and rule.column in self.names:
            return f"{text_of(rule.column)} IS NULL"
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


def _problem(column: str, reason: str, text: str, message: str) -> str:
    return (
        f"{{'column': {literal(column)}, 'reason': {literal(reason)}, "
        f"'detail': coalesce('''' || {text} || ''' ', '') || {literal(message)}}}"
    )
