"""Where rejected records go before the rows are committed: the same table that the provider's own loads write."""

from __future__ import annotations

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as fn
from pyspark.sql.types import LongType, StringType, StructType, TimestampType

from spark_jobs.csv_spec import CsvSpec
from spark_jobs.days import partitions_sql
from spark_jobs.failures import with_retries
from spark_jobs.lake import LakeTable
from spark_jobs.receipts import Ledger, Receipt
from spark_jobs.sales_columns import PARTITIONS

_NUMBERS = ("record_number", "line_number")
_TEXTS = (
    "dataset",
    "window",
    "load_id",
    "source",
    *_NUMBERS,
    "column",
    "reason",
    "detail",
    "raw_text",
    "contract_version",
)
SCHEMA = StructType()
for _name in _TEXTS:
    SCHEMA.add(_name, LongType() if _name in _NUMBERS else StringType())
SCHEMA.add("rejected_at", TimestampType())


def transform(loaded: DataFrame, spec: CsvSpec) -> DataFrame:
    """One row for each broken promise of each rejected record.

    :param loaded: what ``csv_values.with_types`` yields.
    """
    sources = fn.array(*[fn.lit(file.uri) for file in spec.files])
    day = spec.day
    return (
        loaded.where(fn.size("problems") > 0)
        .select("*", fn.explode("problems").alias("problem"))
        .select(
            fn.lit(spec.dataset).alias("dataset"),
            fn.lit(spec.window).alias("window"),
            fn.lit(spec.load_id).alias("load_id"),
            fn.get(sources, fn.col("file")).alias("source"),
            *_NUMBERS,
            "problem.column",
            "problem.reason",
            "problem.detail",
            "raw_text",
            fn.lit(spec.contract_version).alias("contract_version"),
            fn.current_timestamp().alias("rejected_at"),
            *[fn.lit(getattr(day, name)).alias(name) for name in PARTITIONS.names],
        )
    )


def replace_window(table: LakeTable, rows: DataFrame, receipt: Receipt, spec: CsvSpec) -> str:
    """Make ``rows`` the window's only quarantined records.

    :returns: the table's URI, or "" when nothing was ever quarantined for this window.
    """
    problems = rows.count()
    former = 0
    if table.exists():
        former = table.at(table.log().version).where(partitions_sql([spec.day])).count()
    if not problems and not former:
        return ""
    signed = replace(
        receipt,
        dataset=f"{spec.dataset}.quarantine",
        ledger=Ledger(read=problems, written=problems),
        fingerprint="",
        details={"engine": "spark", "rows": problems},
    )

    def attempt() -> str:
        table.create(SCHEMA)
        table.replace_days(rows, [spec.day], signed, fence=table.log().fence_of(signed.load))
        return table.uri

    return with_retries(attempt, what=signed.load)
