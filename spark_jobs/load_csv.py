"""CSV files of a day → a Delta table, under a contract, for days that outgrow one worker.

The same promises as the provider's own engine: every physical line is accounted for, a record that does not fit is quarantined with
its reason, a file that is not what the contract says is refused before any write, and the window's rows are replaced in one commit
that carries the ledger.

    spark-submit spark_jobs/load_csv.py spec.json          (see csv_spec.py; the JSON itself is taken too)
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as fn
from pyspark.sql.types import DataType, StructType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # spark-submit puts this folder itself there

from spark_jobs import csv_quarantine
from spark_jobs.commit_log import CommitLog
from spark_jobs.csv_quoting import Quoting
from spark_jobs.csv_records import FileFacts, number_lines, read_lines, records_of
from spark_jobs.csv_spec import CsvSpec, read_spec
from spark_jobs.csv_values import spark_type, with_types, with_values
from spark_jobs.failures import (
    ContentionError,
    JobError,
    LedgerError,
    SpecificationError,
    is_unknown_sql,
    is_unreadable_input,
    run_job,
    with_retries,
)
from spark_jobs.lake import LakeTable, open_session, require_columns
from spark_jobs.receipts import Ledger, Receipt, hand_over
from spark_jobs.sales_columns import PARTITIONS

SESSION = {
    "spark.sql.ansi.doubleQuotedIdentifiers": "true",  # as in DuckDB, whose SQL the rules are
    "spark.sql.legacy.javaCharsets": "true",  # more encodings than Spark's own six
}
_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Loaded:
    """The parsed records, and what each file is known to hold.

    :param rows: what ``csv_values.with_types`` yields.
    """

    rows: DataFrame
    files: tuple[FileFacts, ...]


def parse(spark: SparkSession, spec: CsvSpec) -> Loaded:
    """Read and type the files.

    :raises JobError: a header is not the contract's, or a file has not the lines that were delivered.
    """
    lines = read_lines(spark, spec.files, spec.dialect)
    numbered, files = number_lines(spark, lines, spec.files, Quoting(spec.dialect))
    if spec.dialect.header:
        for file in files:
            _check_header(file, spec)
    records = records_of(numbered, files, spec.dialect)
    return Loaded(with_types(with_values(records, spec), spec), tuple(files))


def account(loaded: Loaded, spec: CsvSpec) -> tuple[Ledger, dict[int, Row]]:
    """The ledger, before deduplication, and the counts of each file.

    :raises JobError: lines are unaccounted for, a quote is not closed, or there are too many rejects.
    """
    quote_across_lines = (fn.col("lines") > 1) & fn.exists("problems", lambda problem: problem["reason"] == "quote")
    counts = (
        loaded.rows.groupBy("file")
        .agg(
            fn.count("*").alias("records"),
            fn.count_if(fn.size("problems") > 0).alias("rejected"),
            fn.count_if("is_kept").alias("kept"),
            fn.sum("lines").alias("lines"),
            fn.sum("newlines").alias("newlines"),
            fn.min(fn.when(quote_across_lines, fn.col("line_number"))).alias("open_quote"),
        )
        .collect()
    )
    by_file = {row["file"]: row for row in counts}
    for number, file in enumerate(loaded.files):
        _check_lines(file, by_file.get(number), header_lines=int(spec.dialect.header))
    read, rejected, kept = (sum(row[name] for row in counts) for name in ("records", "rejected", "kept"))
    ledger = Ledger(read=read, written=kept, rejected=rejected, filtered=read - rejected - kept).check(spec.load)
    _check_rejects(loaded.rows, ledger, spec)
    return ledger, by_file


def deduplicated(rows: DataFrame, spec: CsvSpec) -> DataFrame:
    """The kept rows, of each key only the last one of the last file."""
    kept = rows.where("is_kept")
    if spec.deduplicate_by:
        last_first = Window.partitionBy(*spec.deduplicate_by).orderBy(fn.desc("file"), fn.desc("record_number"))
        kept = kept.withColumn("place", fn.row_number().over(last_first)).where("place = 1")
    day = spec.day
    return kept.select(
        *[f"`{column.name}`" for column in spec.columns],
        *[fn.lit(getattr(day, name)).alias(name) for name in PARTITIONS.names],
    )


def load(spark: SparkSession, spec: CsvSpec) -> Receipt:
    """Parse, account, quarantine, commit.

    :raises JobError: nothing was committed to the target.
    :raises ContentionError: other applications kept committing this window.
    """
    target, quarantine = LakeTable(spark, spec.target), LakeTable(spark, spec.quarantine)
    schema = target_schema(spec)
    if target.exists():
        require_columns(target, target.at(target.log().version).schema, schema)
    loaded = parse(spark, spec)
    loaded = Loaded(loaded.rows.persist(), loaded.files)
    try:
        ledger, by_file = account(loaded, spec)
        rows = deduplicated(loaded.rows, spec)
        if spec.deduplicate_by:
            unique = loaded.rows.where("is_kept").select(*spec.deduplicate_by).distinct().count()
            ledger = replace(ledger, written=unique, deduplicated=ledger.written - unique).check(spec.load)
        warnings = _table_warnings(rows, spec) if ledger.written else []
        receipt = Receipt(
            dataset=spec.dataset,
            window=spec.window,
            ledger=ledger,
            location=target.uri,
            load_id=spec.load_id,
            contract_version=spec.contract_version,
            fingerprint=spec.fingerprint,
            sources=_sources(loaded.files, by_file, spec, warnings),
            details={"engine": "spark", "rows": ledger.written},
        )
        rejects = csv_quarantine.transform(loaded.rows, spec)
        quarantined = csv_quarantine.replace_window(quarantine, rejects, receipt, spec)
        return with_retries(
            lambda: _commit(target, schema, rows, replace(receipt, quarantine=quarantined), spec), what=spec.load
        )
    finally:
        loaded.rows.unpersist()


def _commit(target: LakeTable, schema: StructType, rows: DataFrame, receipt: Receipt, spec: CsvSpec) -> Receipt:
    """Replace the window; when another attempt has committed the very same load since this one began, leave it at that."""
    target.create(schema)
    log = target.log()
    theirs = _same_load(log, spec)
    if spec.former is not None and theirs is not None and theirs.load_id != spec.former:
        return replace(theirs, repeated=True)
    try:
        return target.replace_days(rows, [spec.day], receipt, fence=log.fence_of(spec.load))
    except ContentionError:
        theirs = _same_load(target.log(), spec)
        if theirs is not None:
            return replace(theirs, repeated=True)
        raise


def _same_load(log: CommitLog, spec: CsvSpec) -> Receipt | None:
    """The window's receipt, if it is of the same rows; without a fingerprint nobody knows."""
    newest = log.newest_receipt(spec.dataset, spec.window)
    return Receipt.from_dict(newest) if newest.get("fingerprint") == spec.fingerprint != "" else None


def target_schema(spec: CsvSpec) -> StructType:
    """The stored columns, without the partition's."""
    schema = StructType()
    for column in spec.columns:
        schema.add(column.name, DataType.fromDDL(spark_type(column)))
    return schema


def _check_header(file: FileFacts, spec: CsvSpec) -> None:
    expected = [column.name for column in spec.source_columns]
    line = file.first_line.removeprefix("\ufeff").removesuffix("\r")
    quote = spec.dialect.quote
    quoting: dict[str, Any] = {"quotechar": quote} if quote else {"quoting": csv.QUOTE_NONE}
    found = next(csv.reader([line], delimiter=spec.dialect.delimiter, **quoting), [])
    if found != expected:
        raise JobError(
            f"{file.uri}: the header is not the contract's. Expected {','.join(expected)!r}, found {','.join(found)!r}. "
            "Mend the file, or change the contract's properties and its version. Nothing was written."
        )


def _check_lines(file: FileFacts, counted: Row | None, *, header_lines: int) -> None:
    """Every physical line is the header, a record's, inside a value, or blank."""
    records, lines, newlines, open_quote = (
        (counted["records"], counted["lines"], counted["newlines"], counted["open_quote"])
        if counted
        else (0, 0, 0, None)
    )
    if open_quote is not None:
        raise JobError(
            f"{file.uri}: the quote in line {open_quote:,} is not closed and swallows the lines behind it. Nothing was loaded; "
            "ask the sender for the file again."
        )
    blank = file.lines - header_lines - lines
    if records + newlines != lines or not 0 <= blank <= file.blank_lines:
        raise LedgerError(
            file.uri,
            {"lines": file.lines, "header": header_lines, "records": records, "newlines": newlines, "blank": blank},
            "lines = header + records + newlines in values + blank lines",
        )


def _check_rejects(rows: DataFrame, ledger: Ledger, spec: CsvSpec) -> None:
    """By mode, ratio and the contract's own word on a broken rule."""
    failing = [rule.reason for rule in spec.rules if rule.on_violation == "fail"]
    limit = ""
    if not ledger.rejected:
        return
    if failing and rows.where(fn.exists("problems", lambda problem: problem["reason"].isin(failing))).limit(1).count():
        limit = "the contract says that a broken rule fails the load"
    elif spec.mode == "FAILFAST":
        limit = "mode FAILFAST allows none"
    elif spec.mode == "PERMISSIVE" and ledger.rejected > spec.max_rejected_ratio * ledger.read:
        limit = f"max_rejected_ratio allows {spec.max_rejected_ratio:.2%}"
    if limit:
        shown = csv_quarantine.transform(rows, spec).orderBy("source", "line_number").limit(_EXAMPLES).collect()
        examples = "".join(
            f"\n  {row['source']}:{row['line_number']}: {row['column']} {row['reason']}: {row['detail']}"
            for row in shown
        )
        raise JobError(
            f"{ledger.rejected:,} of {ledger.read:,} records were rejected; {limit}. Nothing was committed. "
            f"Mend the data or raise the limit.{examples}"
        )


def _table_warnings(rows: DataFrame, spec: CsvSpec) -> list[str]:
    """Rules about all rows together: ``warn`` is told in the receipt, anything else fails the load."""
    rules = [rule for rule in spec.table_rules if not (rule.check == "duplicateValues" and spec.deduplicate_by)]
    if not rules:
        return []
    judged = [fn.expr(text) for rule in rules for text in (rule.violation, rule.measure or "NULL")]
    values = rows.agg(*judged).collect()[0]
    warnings = []
    for number, rule in enumerate(rules):
        broken, measured = values[2 * number], values[2 * number + 1]
        told = f"{rule.id}: {rule.message} (measured {measured})"
        if broken and rule.on_violation != "warn":
            raise JobError(f"{told}. Nothing was committed.")
        if broken:
            warnings.append(told)
    return warnings


def _sources(
    files: Sequence[FileFacts], by_file: dict[int, Row], spec: CsvSpec, warnings: list[str]
) -> tuple[dict[str, Any], ...]:
    facts: list[dict[str, Any]] = []
    for number, (file, given) in enumerate(zip(files, spec.files, strict=True)):
        records = by_file[number]["records"] if number in by_file else 0
        entry: dict[str, Any] = {"uri": file.uri, "lines": file.lines, "records": records}
        entry |= {"bytes": given.bytes} if given.bytes >= 0 else {}
        entry |= {"sha256": given.sha256} if given.sha256 else {}
        facts.append(entry | ({"warnings": warnings} if warnings else {}))
    return tuple(facts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", help="path of the JSON specification, or the JSON itself")
    spec = read_spec(parser.parse_args().spec)
    spark = open_session(f"load_csv {spec.load}")
    for key, value in SESSION.items():
        spark.conf.set(key, value)
    try:
        hand_over([load(spark, spec)])
    except (PySparkException, Py4JJavaError) as error:
        told = str(error).split("\n\tat ", 1)[0]
        if is_unreadable_input(error):
            raise JobError(
                f"A file is absent, ends early or is not in its encoding; nothing was committed. {told}"
            ) from None
        if is_unknown_sql(error):
            raise SpecificationError(
                "Spark does not understand a rule or derived column of the contract, or a filter. Write it in the SQL that "
                f"DuckDB and Spark share, or use engine='local'. {told}"
            ) from None
        raise
    spark.stop()


if __name__ == "__main__":
    run_job(main)
