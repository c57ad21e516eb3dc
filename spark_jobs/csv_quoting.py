"""The grammar of a CSV record, as regular expressions that Java evaluates without backtracking.

A quote opens a quoted field only at the field's start (blanks may stand before it); inside, a quote is doubled or escaped; behind
the closing quote only blanks may stand. Quotes elsewhere in an unquoted field are text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as fn

from spark_jobs.csv_spec import Dialect


@dataclass(frozen=True, slots=True)
class Quoting:
    dialect: Dialect

    def has_quote(self, text: Column) -> Column:
        return fn.contains(text, fn.lit(self.dialect.quote)) if self.dialect.quote else fn.lit(False)

    def ends_inside(self, text: Column) -> Column:
        """Whether a quoted field is still open at the end of a text that starts between two records."""
        return self.has_quote(text) & fn.regexp_like(text, fn.lit(self._open_pattern()))

    def ends_inside_from_inside(self, text: Column) -> Column:
        """The same for a text that starts inside a quoted field."""
        return ~self.has_quote(text) | self.ends_inside(fn.concat(fn.lit(self.dialect.quote), text))

    def fields(self, record: Column) -> Column:
        """The fields as written, quotes included, each with a delimiter before it; all up to the first misquoted one."""
        delimiter = self.dialect.delimiter
        plain = fn.transform(
            fn.split(record, re.escape(delimiter), -1), lambda text: fn.concat(fn.lit(delimiter), text)
        )
        if not self.dialect.quote:
            return plain
        quoted = fn.regexp_extract_all(fn.concat(fn.lit(delimiter), record), fn.lit(self._field_pattern()), fn.lit(0))
        return fn.when(self.has_quote(record), quoted).otherwise(plain)

    def value(self, field: Column) -> Column:
        """The value of one of :meth:`fields`."""
        dialect, text = self.dialect, fn.substring(field, 2, 2**31 - 1)
        if not dialect.quote:
            return text
        trimmed = fn.trim(text)
        inner = fn.substr(trimmed, fn.lit(2), fn.length(trimmed) - 2)
        escape = dialect.escape or dialect.quote
        unescaped = fn.replace(inner, fn.lit(escape + dialect.quote), fn.lit(dialect.quote))
        if escape != dialect.quote:
            unescaped = fn.replace(unescaped, fn.lit(escape * 2), fn.lit(escape))
        return fn.when(fn.startswith(trimmed, fn.lit(dialect.quote)), unescaped).otherwise(text)

    def _body(self) -> str:
        """What may stand between the quotes."""
        quote, escape = re.escape(self.dialect.quote), re.escape(self.dialect.escape or self.dialect.quote)
        if quote == escape:
            return f"[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+"
        return f"[^{quote}{escape}]*+(?:{escape}.[^{quote}{escape}]*+)*+"

    def _field_pattern(self) -> str:
        quote, delimiter = re.escape(self.dialect.quote), re.escape(self.dialect.delimiter)
        return (
            rf"(?s)\G{delimiter}(?: *+{quote}{self._body()}{quote} *+(?={delimiter}|\z)|(?! *+{quote})[^{delimiter}]*+)"
        )

    def _open_pattern(self) -> str:
        quote, delimiter = re.escape(self.dialect.quote), re.escape(self.dialect.delimiter)
        whole = rf"(?: *+{quote}{self._body()}{quote}[^{delimiter}]*+|(?! *+{quote})[^{delimiter}]*+)"
        return rf"(?s)\A(?:{whole}{delimiter})*+ *+{quote}{self._body()}\z"
