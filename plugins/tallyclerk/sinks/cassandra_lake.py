"""A window of a Delta table at a pinned version, as a load into Cassandra needs it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tallyclerk.exceptions import RecordError, ServiceUnavailableError, SpecError, VersionLostError
from tallyclerk.sinks.cassandra_loads import LakeVersion
from tallyclerk.sinks.cassandra_table import TargetTable
from tallyclerk.sinks.lake_files import reaching

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 16_384
_DUCKDB_MEMORY = "256MB"  # beyond it, keys are compared on disk
_PARTITIONS = ("year", "month", "day")


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """:param rows: in the window. :param keys: distinct ones. Equal, but for rows that stand there twice word for word."""

    rows: int
    keys: int


class LakeWindow:
    """The rows of one UTC day in a table partitioned by year, month and day. Memory is bounded by a batch of rows.

    :param version: None pins the newest at construction.
    :raises SpecError: there is no such table or version, or it is not partitioned by day.
    """

    def __init__(
        self, uri: str, day: date, *, version: int | None = None, storage_options: Mapping[str, str] | None = None
    ) -> None:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        self.uri, self.day = uri, day
        try:
            with reaching(uri):
                self._table = DeltaTable(uri, version=version, storage_options=dict(storage_options or {}))
        except DeltaError as error:  # also TableNotFoundError
            raise SpecError(
                f"{uri} cannot be opened as a Delta table at version {version if version is not None else 'newest'}: "
                f"{error}. Check the path, or load a version that still exists."
            ) from error
        partitions = self._table.metadata().partition_columns
        if sorted(partitions) != sorted(_PARTITIONS):
            raise SpecError(
                f"{uri} is partitioned by {partitions}, not by {list(_PARTITIONS)}: it has no days to load."
            )

    @property
    def version(self) -> int:
        return self._table.version()

    @cached_property
    def files(self) -> tuple[str, ...]:
        """URIs of the window's data files."""
        terms: Any = [(name, "=", value) for name, value in self._partition_values().items()]
        return tuple(sorted(self._table.file_uris(file_pruning_predicate=terms)))

    def identity(self, target: TargetTable) -> LakeVersion:
        """What would be loaded. Other days' commits raise the version, but leave the fingerprint."""
        digest = hashlib.sha256(repr((target.columns, target.primary_key)).encode())
        for uri in self.files:
            digest.update(uri.encode())
        return LakeVersion(self.uri, str(self._table.metadata().id), self.version, digest.hexdigest())

    @cached_property
    def dataset(self) -> Any:
        return self._table.to_pyarrow_dataset()

    @property
    def schema(self) -> pa.Schema:
        return self.dataset.schema

    def reader(self, columns: list[str]) -> pa.RecordBatchReader:
        import pyarrow.dataset as ds

        expression = None
        for name, value in self._partition_values().items():
            term = ds.field(name) == value
            expression = term if expression is None else expression & term
        return self.dataset.scanner(
            columns=columns, filter=expression, batch_size=BATCH_ROWS, batch_readahead=2, fragment_readahead=1
        ).to_reader()

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield from (batch for batch in self.reader(columns) if batch.num_rows)

    def count_keys(self, target: TargetTable) -> KeyCounts:
        """Rows and distinct keys.

        :raises RecordError: a null in the key, or one key with two different rows: at one write timestamp Cassandra would
            mix their cells into a row that nobody wrote.
        """
        keys, sources = _key_sql(target), list(dict.fromkeys(column.source for column in target.columns))
        with _duckdb() as connection:
            connection.register("read_keys", self.reader(list(dict.fromkeys(c.source for c in target.key_columns))))
            grouped = f"SELECT {keys}, count(*) AS occurrences FROM read_keys GROUP BY ALL"  # noqa: S608
            connection.execute(f"CREATE TEMP TABLE grouped AS {grouped}")
            rows, distinct, nulls = connection.execute(
                "SELECT coalesce(sum(occurrences), 0)::BIGINT, count(*), "  # noqa: S608
                f"coalesce(sum(occurrences) FILTER ({_any_null(target)}), 0)::BIGINT FROM grouped"
            ).fetchone()
            if nulls:
                raise RecordError(
                    f"{self.uri} {self.day}: {nulls:,} rows have a null in the key ({', '.join(target.primary_key)}). "
                    "Nothing was written; mend the job that writes them."
                )
            if distinct < rows:
                connection.register("all_rows", self.reader(sources))
                columns = ", ".join(f'"{name}"' for name in sources)
                examples = connection.execute(
                    f"SELECT {keys}, count(*) FROM (SELECT DISTINCT {columns} FROM all_rows SEMI JOIN "  # noqa: S608
                    f"(SELECT * FROM grouped WHERE occurrences > 1) g ON {_key_join(target, 'all_rows', 'g')}) "
                    "GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 3"
                ).fetchall()
                if examples:
                    shown = "; ".join(", ".join(map(str, example[:-1])) for example in examples)
                    raise RecordError(
                        f"{self.uri} {self.day}: keys with more than one row, and the rows differ: {shown}. Nothing was "
                        "written; deduplicate in the job that writes the table."
                    )
        return KeyCounts(rows=rows, keys=distinct)

    def vanished_keys(self, older: LakeWindow, target: TargetTable) -> Iterator[pa.RecordBatch]:
        """Keys that ``older`` has and this version has not, as the key's columns under their lake names.

        :raises VersionLostError: the older version's files were vacuumed away.
        """
        return self._compare(older, target, "ANTI JOIN", None)

    def emptied_keys(self, older: LakeWindow, target: TargetTable, source: str) -> Iterator[pa.RecordBatch]:
        """Keys whose column ``source`` had a value in ``older`` and is null in this version."""
        return self._compare(older, target, "SEMI JOIN", source)

    def _compare(
        self, older: LakeWindow, target: TargetTable, join: str, emptied: str | None
    ) -> Iterator[pa.RecordBatch]:
        names = list(dict.fromkeys(column.source for column in target.key_columns))
        columns = ", ".join(f'"{name}"' for name in names)
        read = names if emptied is None else [*names, emptied]
        had = f'SELECT * FROM older_rows WHERE "{emptied}" IS NOT NULL' if emptied else "SELECT * FROM older_rows"  # noqa: S608
        has = f'SELECT * FROM newer_rows WHERE "{emptied}" IS NULL' if emptied else "SELECT * FROM newer_rows"  # noqa: S608
        with _duckdb() as connection:
            connection.register("newer_rows", self.reader(read))
            try:
                connection.register("older_rows", older.reader(read))
                connection.execute(
                    f"CREATE TEMP TABLE found AS SELECT DISTINCT {columns} FROM ({had}) older "  # noqa: S608
                    f"{join} ({has}) newer ON {_key_join(target, 'older', 'newer')}"
                )
            except (OSError, duckdb_error()) as error:
                raise self._lost(older, error) from error
            yield from connection.execute("FROM found").to_arrow_reader(BATCH_ROWS)

    def _lost(self, older: LakeWindow, error: Exception) -> Exception:
        text = str(error).lower()
        if isinstance(error, FileNotFoundError) or any(sign in text for sign in ("not found", "not exist", "no such")):
            return VersionLostError(uri=self.uri, day=self.day, version=older.version)
        if isinstance(error, OSError):
            return ServiceUnavailableError(service="The lake", address=self.uri, cause=error)
        return error

    def _partition_values(self) -> dict[str, Any]:
        """As the table's own types: ``month=5`` for numbers, ``month=05`` for text."""
        values: dict[str, Any] = {"year": self.day.year, "month": self.day.month, "day": self.day.day}
        for field in self._table.schema().fields:
            if field.name in values and "string" in str(field.type):
                values[field.name] = f"{values[field.name]:0{4 if field.name == 'year' else 2}d}"
        return values


def _duckdb() -> Any:
    import tempfile

    import duckdb

    return duckdb.connect(
        config={"memory_limit": _DUCKDB_MEMORY, "threads": 2, "temp_directory": tempfile.gettempdir()}
    )


def duckdb_error() -> type[Exception]:
    import duckdb

    return duckdb.Error


def _key_sql(target: TargetTable) -> str:
    return ", ".join(f'{_canonical(column, "")} AS "{column.source}"' for column in target.key_columns)


def _any_null(target: TargetTable) -> str:
    return "WHERE " + " OR ".join(f'"{column.source}" IS NULL' for column in target.key_columns)


def _key_join(target: TargetTable, left: str, right: str) -> str:
    return " AND ".join(
        f"{_canonical(column, left + '.')} = {_canonical(column, right + '.')}" for column in target.key_columns
    )


def _canonical(column: Any, table: str) -> str:
    """One spelling for keys that Cassandra holds to be one: a UUID's letters have no case."""
    name = f'{table}"{column.source}"'
    return f"lower({name})" if column.cql_type == "uuid" else name
