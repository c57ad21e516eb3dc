"""Typed values of CSV records, and what is wrong with those that do not fit.

A text is a value only where plain digits denote it exactly: ``1e3``, `` 7 `` or ``1.6`` for an integer are rejects, where engines that
parse by themselves would coerce in silence; ``.5`` and ``1.500`` are values of a decimal(12,2).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn

from spark_jobs.csv_quoting import Quoting
from spark_jobs.csv_spec import CsvColumn, CsvSpec, RowRule
from spark_jobs.failures import SpecificationError

META = ("file", "record_number", "line_number", "lines", "raw_text")
_SPARK_TYPES = {
    "text": "string",
    "uuid": "string",
    "boolean": "boolean",
    "smallint": "smallint",
    "int": "int",
    "bigint": "bigint",
    "double": "double",
    "date": "date",
    "timestamp": "timestamp",
    "timestamptz": "timestamp",
}
_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
_FORMS = {
    "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "smallint": "-?[0-9]+",
    "int": "-?[0-9]+",
    "bigint": "-?[0-9]+",
    "boolean": "(?i)true|false|t|f|1|0",
    "double": r"\S(.*\S)?",
    "date": _DATE,
    "timestamp": _DATE + r" [0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?",
    "timestamptz": _DATE + r"[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}(:?[0-9]{2})?)",
}
_TIMES = ("date", "timestamp", "timestamptz")
_ISO_FORMATS = {"date": "%Y-%m-%d", "timestamp": "%Y-%m-%d %H:%M:%S"}
# strptime → (Java's DateTimeFormatter, what it looks like)
_DIRECTIVES = {
    "%Y": ("yyyy", "[0-9]{4}"),
    "%m": ("MM", "[0-9]{2}"),
    "%d": ("dd", "[0-9]{2}"),
    "%H": ("HH", "[0-9]{2}"),
    "%M": ("mm", "[0-9]{2}"),
    "%S": ("ss", "[0-9]{2}"),
    "%g": ("SSS", "[0-9]{3}"),
    "%f": ("SSSSSS", "[0-9]{6}"),
    "%z": ("xxx", "[+-][0-9]{2}:[0-9]{2}"),
}


def spark_type(column: CsvColumn) -> str:
    if column.kind == "decimal":
        return column.type
    if column.kind not in _SPARK_TYPES:
        raise SpecificationError(
            f"{column.name}: the type {column.type} is not read from CSV by Spark; use engine='local'."
        )
    return _SPARK_TYPES[column.kind]


def with_values(records: DataFrame, spec: CsvSpec) -> DataFrame:
    """The records with ``text of <name>`` for each source column and ``structure``: the record's one structural problem, or NULL."""
    quoting, names = Quoting(spec.dialect), [column.name for column in spec.source_columns]
    raw = fn.col("raw_text")
    split = records.withColumn("fields", quoting.fields(raw))
    written = fn.array_join("fields", "") == fn.concat(fn.lit(spec.dialect.delimiter), raw)
    found, expected = fn.size("fields"), len(names)
    listed = fn.array(*[fn.lit(name) for name in names])

    def name_at(index: Column) -> Column:
        return fn.coalesce(fn.get(listed, index), fn.lit(""))

    bad_text = fn.array_position(fn.transform("fields", lambda text: fn.contains(text, fn.lit("\ufffd"))), True)
    structure = (
        fn.when(
            ~fn.is_valid_utf8(raw),
            _problem(name_at(bad_text.cast("int") - 1), "encoding", fn.lit("is not valid UTF-8")),
        )
        .when(
            quoting.has_quote(raw) & ~written,
            _problem(name_at(found), "quote", fn.lit("a quote is not closed, or text stands behind a closing quote")),
        )
        .when(
            found != expected,
            _problem(name_at(found), "columns", fn.concat(fn.lit(f"{expected} columns expected, found "), found)),
        )
    )
    texts = split.withColumn("structure", structure).withColumn("values", fn.transform("fields", quoting.value))
    null_text = fn.lit(spec.dialect.null_text)
    return texts.select(
        *META,
        "structure",
        *[
            fn.when(fn.col("structure").isNull(), fn.nullif(fn.get("values", fn.lit(index)), null_text)).alias(
                _text(name)
            )
            for index, name in enumerate(names)
        ],
    )


def with_types(texts: DataFrame, spec: CsvSpec) -> DataFrame:
    """Typed columns and ``problems``: an array, empty for a record that fits; and ``newlines`` inside the record's values."""
    typed = texts.select("*", *[_typed(column).alias(column.name) for column in spec.source_columns])
    derived = [fn.expr(column.derived).alias(column.name) for column in spec.columns if column.derived is not None]
    typed = typed.select("*", *derived)
    problems = [
        fn.when(
            fn.col(_text(column.name)).isNotNull() & ~_fits(column),
            _problem(fn.lit(column.name), "type", _told(column.name, f"is not a {column.type}")),
        )
        for column in spec.source_columns
        if column.kind != "text"
    ]
    sources = {column.name for column in spec.source_columns}
    problems += [
        fn.when(
            fn.coalesce(_own_violation(rule, sources), fn.lit(False)),
            _problem(
                fn.lit(rule.column or ""),
                rule.reason,
                _told(rule.column, rule.message) if rule.column in sources else fn.lit(rule.message),
            ),
        )
        for rule in spec.rules
        if rule.on_violation != "warn"
    ]
    structural = fn.array("structure")
    found = fn.filter(fn.array(*problems), lambda problem: problem.isNotNull()) if problems else fn.array()
    newlines = [fn.coalesce(_newlines(fn.col(_text(name))), fn.lit(0)) for name in sorted(sources)]
    total = sum(newlines[1:], newlines[0])
    result = typed.select(
        *META[:-1],
        *[column.name for column in spec.columns],
        fn.when(fn.col("structure").isNotNull(), structural).otherwise(found).alias("problems"),
        fn.when(fn.col("structure").isNotNull(), _newlines(fn.col("raw_text"))).otherwise(total).alias("newlines"),
        fn.col("raw_text"),
    )
    bad = fn.size("problems") > 0
    return result.withColumn("raw_text", fn.when(bad, fn.make_valid_utf8("raw_text"))).withColumn(
        "is_kept", ~bad & kept_by(spec.filters)
    )


def kept_by(filters: Sequence[str]) -> Column:
    """TRUE for a row that meets every filter; a filter that is NULL is not met."""
    kept = fn.lit(True)
    for condition in filters:
        kept = kept & fn.coalesce(fn.expr(condition), fn.lit(False))
    return kept


def _own_violation(rule: RowRule, sources: Collection[str]) -> Column:
    """The rule's violation; a value that is there but not of its type is NULL and yet not an empty one."""
    violation = fn.expr(rule.violation)
    if rule.check == "required" and rule.column in sources:
        return violation & fn.col(_text(rule.column)).isNull()
    return violation


def _text(name: str) -> str:
    return f"text of {name}"


def _typed(column: CsvColumn) -> Column:
    text = fn.col(_text(column.name))
    if column.kind == "text":
        return text
    pattern, looks = _java_format(column)
    plain = fn.regexp_like(text, fn.lit(rf"\A(?:{looks})\z"))
    if pattern:
        value = fn.try_to_timestamp(text, fn.lit(pattern))
        value = value.cast("date") if column.kind == "date" else value
    elif column.kind == "boolean":
        value = fn.lower(text).isin("true", "t", "1")
    else:
        value = text.try_cast(spark_type(column))
    return fn.when(plain, value)


def _fits(column: CsvColumn) -> Column:
    return fn.col(f"`{column.name}`").isNotNull()


def _java_format(column: CsvColumn) -> tuple[str, str]:
    """Java's pattern ("" for a plain cast), and the regular expression of the written form."""
    if column.kind == "decimal":
        scale = int(column.type[len("decimal(") : -1].split(",")[1])
        fraction = f"[0-9]{{1,{scale}}}0*" if scale else "0+"
        return "", rf"-?([0-9]+(\.({fraction})?)?|\.{fraction})"
    if column.text_format in (None, _ISO_FORMATS.get(column.kind)) or column.kind not in _TIMES:
        return "", _FORMS[column.kind]
    pattern, looks = "", ""
    for part in re.findall(r"%.|[^%]+", column.text_format, re.DOTALL):
        if part in _DIRECTIVES:
            pattern, looks = pattern + _DIRECTIVES[part][0], looks + _DIRECTIVES[part][1]
        elif part == "%%" or not part.startswith("%"):
            literal = part.replace("%%", "%")
            pattern, looks = pattern + "'" + literal.replace("'", "''") + "'", looks + re.escape(literal)
        else:
            raise SpecificationError(
                f"{column.name}: {part} in the format {column.text_format!r} is not read by Spark."
            )
    return pattern, looks


def _problem(column: Column, reason: str, detail: Column) -> Column:
    return fn.struct(column.alias("column"), fn.lit(reason).alias("reason"), detail.alias("detail"))


def _told(name: str, message: str) -> Column:
    quoted = fn.concat(fn.lit("'"), fn.col(_text(name)), fn.lit("' "))
    return fn.concat(fn.coalesce(quoted, fn.lit("")), fn.lit(message))


def _newlines(text: Column) -> Column:
    return fn.length(text) - fn.length(fn.replace(text, fn.lit("\n"), fn.lit("")))
