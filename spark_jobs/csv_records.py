"""Records of CSV files, read in parallel: physical lines get their numbers, then become records.

Files are split between tasks at any line. Most files hold no newline inside a value; their lines are records, wherever they were
split. Only a file in which some line leaves a quoted field open, or is blank, is put in order as a whole (one task a file).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as fn

from spark_jobs.csv_quoting import Quoting
from spark_jobs.csv_spec import CsvFile, Dialect
from spark_jobs.failures import JobError, SpecificationError


@dataclass(frozen=True, slots=True)
class FileFacts:
    """:param lines: physical lines; a last one without a newline counts. :param blank_lines: all, also those inside values."""

    uri: str
    lines: int
    blank_lines: int
    is_ordered: bool
    first_line: str


def read_lines(spark: SparkSession, files: Sequence[CsvFile], dialect: Dialect) -> DataFrame:
    """``file`` (its number), ``block`` and ``position`` (which order the lines of a file), ``text`` (without the newline)."""
    text, frames = _decoded(dialect.encoding), []
    for number, file in enumerate(files):
        if file.uri.endswith(".zst"):
            raise SpecificationError(
                f"{file.uri}: Spark cannot read .zst here; use engine='local', or deliver plain or .gz files."
            )
        frames.append(
            spark.read.option("lineSep", "\n")
            .text(_hadoop_path(file.uri))
            .select(
                fn.lit(number).alias("file"),
                fn.col("_metadata.file_block_start").alias("block"),
                fn.monotonically_increasing_id().alias("position"),
                text.alias("text"),
            )
        )
    lines = frames[0]
    for frame in frames[1:]:
        lines = lines.unionByName(frame)
    return lines


def number_lines(
    spark: SparkSession, lines: DataFrame, files: Sequence[CsvFile], quoting: Quoting
) -> tuple[DataFrame, list[FileFacts]]:
    """``file``, ``line_number`` (from 1), ``text``; and each file's facts. One pass counts the lines of each block."""
    blocks = (
        lines.groupBy("file", "block")
        .agg(
            fn.count("*").alias("lines"),
            fn.min("position").alias("first"),
            fn.count_if(quoting.ends_inside(fn.col("text"))).alias("opens"),
            fn.count_if(_is_blank()).alias("blanks"),
            fn.min_by("text", "position").alias("first_line"),
        )
        .orderBy("file", "block")
        .collect()
    )
    facts, offsets = [], []
    for number, file in enumerate(files):
        counted, opens, blanks, first_line = 0, 0, 0, ""
        for block in (block for block in blocks if block["file"] == number):
            offsets.append((number, block["block"], counted + 1 - block["first"]))
            first_line = first_line if counted else block["first_line"]
            counted += block["lines"]
            opens += block["opens"]
            blanks += block["blanks"]
        if file.lines not in (-1, counted):
            raise JobError(
                f"{file.uri}: {counted:,} lines were read where {file.lines:,} were delivered; it changed, or ends early."
            )
        facts.append(FileFacts(file.uri, counted, blanks, opens + blanks > 0, first_line))
    table = spark.createDataFrame(offsets, "file INT, block BIGINT, shift BIGINT")
    numbered = lines.join(fn.broadcast(table), ["file", "block"]).select(
        "file", (fn.col("position") + fn.col("shift")).alias("line_number"), "text"
    )
    return numbered, facts


def records_of(numbered: DataFrame, facts: Sequence[FileFacts], dialect: Dialect) -> DataFrame:
    """``file``, ``record_number`` (from 1), ``line_number`` (of its first line), ``lines``, ``raw_text``."""
    header_lines = int(dialect.header)
    body = numbered.where(fn.col("line_number") > header_lines)
    ordered = [number for number, file in enumerate(facts) if file.is_ordered]
    record = ("file", "record_number", "line_number", "lines", "raw_text")
    plain = body.where(~fn.col("file").isin(ordered)) if ordered else body
    plain = plain.select(
        "file",
        (fn.col("line_number") - header_lines).alias("record_number"),
        "line_number",
        fn.lit(1).cast("bigint").alias("lines"),
        _without_cr(fn.col("text")).alias("raw_text"),
    )
    if not ordered:
        return plain
    return plain.unionByName(_joined(body.where(fn.col("file").isin(ordered)), Quoting(dialect)).select(*record))


def _joined(body: DataFrame, quoting: Quoting) -> DataFrame:
    """Lines put together wherever a quoted field is open at the end of one.

    Each line maps "inside a quoted field before it" to "inside after it". Such a map is constant, keeps, or toggles; so the state
    before a line is the value of the last constant line, toggled once for each toggling line since.
    """
    upto = Window.partitionBy("file").orderBy("line_number")
    before = upto.rowsBetween(Window.unboundedPreceding, -1)
    text = fn.col("text")
    lines = body.withColumn("opens", quoting.ends_inside(text)).withColumn(
        "stays", quoting.ends_inside_from_inside(text)
    )
    toggles = (fn.col("opens") & ~fn.col("stays")).cast("int")
    constant = fn.when(
        fn.col("opens") == fn.col("stays"),
        fn.struct(fn.col("opens").cast("int").alias("value"), fn.sum(toggles).over(upto).alias("toggles")),
    )
    lines = lines.withColumn("toggled", fn.coalesce(fn.sum(toggles).over(before), fn.lit(0))).withColumn(
        "constant", constant
    )
    last = fn.last("constant", ignorenulls=True).over(before)
    state = fn.coalesce(last["value"], fn.lit(0)) + fn.col("toggled") - fn.coalesce(last["toggles"], fn.lit(0))
    lines = lines.withColumn("is_inside", state % 2 == 1).where(fn.col("is_inside") | ~_is_blank())
    lines = lines.withColumn("record_number", fn.sum((~fn.col("is_inside")).cast("int")).over(upto))
    parts = fn.array_sort(fn.collect_list(fn.struct("line_number", "text")))
    return lines.groupBy("file", "record_number").agg(
        fn.min("line_number").alias("line_number"),
        fn.count("*").alias("lines"),
        _without_cr(fn.array_join(fn.transform(parts, lambda part: part["text"]), "\n")).alias("raw_text"),
    )


def _decoded(encoding: str) -> Column:
    """The line as text; UTF-8 stays as it is, so that a damaged record can be named instead of failing its file."""
    name = codecs.lookup(encoding).name
    if name in ("utf-8", "ascii"):
        return fn.col("value")
    if name.startswith(("utf-16", "utf-32")):
        raise SpecificationError(f"{encoding}: Spark splits lines at a single byte here; use engine='local'.")
    return fn.decode(fn.col("value").cast("binary"), name)


def _hadoop_path(uri: str) -> str:
    """Hadoop does not decode a URI, and takes some characters of a path for patterns."""
    path = unquote(uri) if uri.startswith("file:") else uri
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)


def _is_blank() -> Column:
    return fn.col("text").isin("", "\r")


def _without_cr(text: Column) -> Column:
    return fn.when(fn.endswith(text, fn.lit("\r")), fn.substr(text, fn.lit(1), fn.length(text) - 1)).otherwise(text)
