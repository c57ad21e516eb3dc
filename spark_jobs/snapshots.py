"""Master data as daily snapshots: the newest one at or before a day is what that day's sales meet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as fn
from pyspark.sql.types import StructType

from spark_jobs.days import partition_date, partitions_sql
from spark_jobs.failures import JobError
from spark_jobs.lake import Lake, require_columns


@dataclass(frozen=True, slots=True)
class MasterData:
    """A raw table whose partition of a day is all of the data as it was then.

    :param name: prefix of the columns that a join adds: ``<name>_is_known`` and ``<name>_snapshot_date``.
    :param key: column by which sales find their row; unique within a snapshot.
    :param columns: what is taken, the key among it.
    """

    name: str
    path: str
    key: str
    columns: StructType

    @property
    def date_column(self) -> str:
        return f"{self.name}_snapshot_date"

    @property
    def known_column(self) -> str:
        return f"{self.name}_is_known"


@dataclass(frozen=True)
class Snapshots:
    """The snapshots that some event dates meet.

    :param rows: the columns of ``data`` and its date column; one row a key and snapshot.
    :param of_day: event date → the snapshot it meets; None where the first snapshot is younger.
    :param source: URI and version of the table, for the receipt.
    """

    data: MasterData
    rows: DataFrame
    of_day: Mapping[date, date | None]
    source: Mapping[str, Any]

    def join(self, sales: DataFrame) -> DataFrame:
        """Every row of ``sales``, with the master data of its day's snapshot; nulls and ``false`` where it has none."""
        known = fn.lit(True).alias(self.data.known_column)
        return (
            sales.withColumn(self.data.date_column, self._date_met())
            .join(
                self.rows.select(*self.data.columns.names, self.data.date_column, known),
                [self.data.key, self.data.date_column],
                "left",
            )
            .withColumn(self.data.known_column, fn.coalesce(self.data.known_column, fn.lit(False)))
        )

    def _date_met(self) -> Column:
        chosen = fn.lit(None).cast("date")
        for day, snapshot in self.of_day.items():
            if snapshot:
                chosen = fn.when(fn.col("transaction_date") == fn.lit(day), fn.lit(snapshot)).otherwise(chosen)
        return chosen

    def as_details(self) -> dict[str, str | None]:
        """ISO event date → ISO snapshot date, for the receipt."""
        return {
            day.isoformat(): snapshot.isoformat() if snapshot else None for day, snapshot in sorted(self.of_day.items())
        }


def newest_snapshots(event_dates: Iterable[date], snapshot_dates: Iterable[date]) -> dict[date, date | None]:
    """For each event date the newest snapshot at or before it; None where the first snapshot is younger."""
    known = sorted(snapshot_dates)
    return {day: max((snapshot for snapshot in known if snapshot <= day), default=None) for day in event_dates}


def read_snapshots(lake: Lake, data: MasterData, event_dates: Collection[date]) -> Snapshots:
    """The snapshots that ``event_dates`` meet, from the table as it is now.

    :raises JobError: the table is not there, lacks a column, or holds a key twice in one snapshot.
    """
    table = lake.table(data.path)
    if not table.exists():
        raise JobError(f"There is no table {table.uri}; run the load that fills it first.")
    version = table.log().version
    stored = table.at(version)
    require_columns(table, stored.schema, data.columns)
    days = stored.select(partition_date().alias("day")).distinct().collect()
    of_day = newest_snapshots(event_dates, [row["day"] for row in days])
    met = {snapshot for snapshot in of_day.values() if snapshot}
    rows = stored.where(partitions_sql(met)).withColumn(data.date_column, partition_date())
    doubled = rows.groupBy(data.date_column, data.key).count().where("count > 1").limit(5).collect()
    if doubled:
        raise JobError(
            f"{table.uri} holds a {data.key} twice in one snapshot, for instance {doubled[0][data.key]} in that of "
            f"{doubled[0][data.date_column]}: its sales would be doubled. Load that snapshot again."
        )
    return Snapshots(data, rows, of_day, {"uri": table.uri, "version": version})
