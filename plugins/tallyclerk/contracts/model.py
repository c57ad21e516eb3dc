"""A contract at run time: plain values, already checked by :func:`tallyclerk.contracts.load_contract`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

OnViolation = Literal["reject", "warn", "fail"]
"""What a broken rule does: the row goes to quarantine, the receipt says so, or the load fails before its commit."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    :param type: normalised physical type: text, uuid, boolean, smallint, int, bigint, ``decimal(p,s)``, double, date,
        timestamp, timestamptz or bytes.
    :param derived: DuckDB SQL over the source columns, for a column that the source does not bring.
    :param text_format: how a date or timestamp is written in a text file, as a strptime format; None means ISO 8601.
    :param time_zone: zone of values that state none; always a name of UTC, and None where the type has no time.
    """

    name: str
    type: str
    required: bool = False
    unique: bool = False
    primary_key: bool = False
    derived: str | None = None
    text_format: str | None = None
    time_zone: str | None = None

    @property
    def precision(self) -> int | None:
        """All digits of a decimal; None for other types."""
        return self._decimal_part(0)

    @property
    def scale(self) -> int | None:
        """Digits after the point of a decimal; None for other types."""
        return self._decimal_part(1)

    @property
    def kind(self) -> str:
        """The type without its parameters: ``decimal`` for ``decimal(12,2)``."""
        return self.type.partition("(")[0]

    def _decimal_part(self, index: int) -> int | None:
        if self.kind != "decimal":
            return None
        return int(self.type[len("decimal(") : -1].split(",")[index])


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """How the files are written. ``path`` is a pattern that may hold ``{date}`` and glob signs."""

    path: str
    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    header: bool = True
    null_text: str = ""
    encoding: str = "UTF-8"
    parse_mode: Literal["PERMISSIVE", "DROPMALFORMED", "FAILFAST"] = "PERMISSIVE"


@dataclass(frozen=True, slots=True)
class RestDialect:
    """A paged API: where rows and their total stand in an answer, and the names of a request's parameters.

    :param location: the endpoint's address; a connection may replace what stands before its path.
    :param data_key, total_key, next_cursor_key: keys of the answer; a dot leads into an object (``meta.total``).
    :param paging: by page number, by row offset, by a cursor of the answer, or by its ``Link`` header (RFC 8288).
    :param since, until: parameters that bound the rows to a half-open span of time; None where there is none.
    """

    location: str
    data_key: str
    total_key: str | None = None
    paging: Literal["page", "offset", "cursor", "link"] = "page"
    page: str = "page"
    first_page: int = 1
    limit: str = "limit"
    page_size: int = 100
    offset: str = "offset"
    cursor: str = "cursor"
    next_cursor_key: str = "next_cursor"
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class KafkaMapping:
    """The topic, and the columns whose values make a message's key."""

    topic: str
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CassandraMapping:
    """A table in Cassandra.

    :param columns: Cassandra column → contract column, in the table's order.
    :param types: CQL types stated instead of the contract's (``customer_id: text`` although the contract has bigint).
    :param clustering_order: ASC or DESC of each clustering column.
    :param indexes: columns that have a storage-attached index, so that rows can be asked for by them.
    """

    keyspace: str
    table: str
    partition_key: tuple[str, ...]
    clustering_key: tuple[str, ...]
    columns: Mapping[str, str]
    types: Mapping[str, str] = field(default_factory=dict)
    clustering_order: Mapping[str, str] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()

    @property
    def primary_key(self) -> tuple[str, ...]:
        return self.partition_key + self.clustering_key


@dataclass(frozen=True, slots=True)
class Incremental:
    """The column that tells new rows, and how far before the last value a load reads again."""

    column: str
    lookback: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Late:
    """What happens to a row that comes later than ``after`` its event time."""

    after: timedelta
    action: Literal["quarantine", "accept"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a table's measured value must be.

    :param comparison: as in ODCS: ``mustBe``, ``mustBeLessThan``, ``mustBeBetween``, ...
    :param values: one number, or the two inclusive bounds of a ``…Between``.
    """

    metric: str
    comparison: str
    values: tuple[float, ...]
    unit: Literal["rows", "percent"] = "rows"


@dataclass(frozen=True, slots=True)
class Rule:
    """One promise about the data, as DuckDB SQL over the typed columns (derived ones included), names quoted.

    :param kind: ``row``: ``violation`` is TRUE for a bad row. ``table``: ``violation`` is an aggregate over all rows,
        TRUE for a bad table, and ``measure`` an aggregate that yields the number it judges.
    :param check: the origin: ``required``, ``minimum``, ..., ``validValues``, ``sql``, ``rowCount``, ``nullValues``, ...
    """

    id: str
    kind: Literal["row", "table"]
    check: str
    violation: str
    message: str
    on_violation: OnViolation
    column: str | None = None
    measure: str | None = None
    threshold: Threshold | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """One data set's contract.

    :param dataset: the name under which loads are committed (the schema object's name).
    :param fingerprint: SHA-256 (hex) of the parsed document as canonical JSON: comments and layout do not change it.
    :param partitioned_by: columns by whose value the stored table is divided, in order.
    """

    id: str
    version: str
    dataset: str
    path: Path
    fingerprint: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    partitioned_by: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    namespace: str | None = None
    csv: CsvDialect | None = None
    rest: RestDialect | None = None
    kafka: KafkaMapping | None = None
    cassandra: CassandraMapping | None = None
    incremental: Incremental | None = None
    late: Late | None = None

    @property
    def source_columns(self) -> tuple[Column, ...]:
        """The columns that come in the file or table, in order: all but the derived ones."""
        return tuple(column for column in self.columns if column.derived is None)

    @property
    def row_rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.kind == "row")

    @property
    def table_rules(self) -> tuple[Rule, ...]:
        return tuple(rule for rule in self.rules if rule.kind == "table")

    def column(self, name: str) -> Column:
        """Return a column by its name.

        :raises KeyError: there is none of that name.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)
