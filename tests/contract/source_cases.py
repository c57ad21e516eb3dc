"""The sources that the suite holds to one standard, each with a real place of its own that the suite can fill.

Another source: a class with the methods of :class:`SourceCase`, and its entry in ``SOURCE_CASES``.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

from stack.settings import LOOPBACK, load_settings
from tallyclerk.contracts import Contract
from tallyclerk.core.extract import Source
from tallyclerk.sources.csv_files import CsvFiles
from tallyclerk.sources.database_table import DatabaseTable

DAY = date(2026, 3, 1)
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: sales
name: sales
version: 1.2.0
status: active
servers:
  - {server: landing, type: custom, format: csv, path: "sales_{date}.csv.gz", delimiter: ","}
schema:
  - name: sales
    customProperties:
      - {property: incremental, value: {column: sold_on}}
    properties:
      - {name: id, logicalType: integer, physicalType: bigint, primaryKey: true, required: true}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)", required: true}
      - {name: sold_on, logicalType: date, physicalType: date, required: true}
      - {name: note, logicalType: string, physicalType: text}
"""


class Sale(NamedTuple):
    """A row as it is delivered; where a required value is None, or a number is too big, it does not fit the contract."""

    id: int
    amount: Decimal | None
    note: str | None
    sold_on: date = DAY


class SourceCase(Protocol):
    """One kind of source over a place of the test's own, which begins empty.

    :cvar keeps_one_row_a_key: of records with one primary key, the last is kept and the others are counted.
    :cvar tells_changes: its fingerprint says, without reading rows, whether they are others than before.
    """

    keeps_one_row_a_key: bool
    tells_changes: bool

    def deliver(self, sales: Sequence[Sale], *, day: date = DAY) -> None:
        """Make these the day's only rows, in this order."""

    def source(self) -> Source:
        """As an operator would make it, for the contract above."""

    def rename_column(self, name: str, new: str) -> None:
        """Change the schema of what was delivered behind the contract's back."""

    def cut_off(self) -> None:
        """From now on what was delivered breaks off while it is read."""


@dataclass
class CsvCase:
    contract: Contract
    folder: Path
    keeps_one_row_a_key = True
    tells_changes = True

    def deliver(self, sales: Sequence[Sale], *, day: date = DAY) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "amount", "sold_on", "note"])
        writer.writerows([sale.id, sale.amount, sale.sold_on, sale.note] for sale in sales)
        self._path(day).write_bytes(gzip.compress(text.getvalue().encode()))

    def source(self) -> Source:
        assert self.contract.csv
        return CsvFiles(
            contract=self.contract,
            dialect=self.contract.csv,
            folder=self.folder,
            deduplicate_by=tuple(self.contract.primary_key),
            max_rejected_ratio=1.0,
        )

    def rename_column(self, name: str, new: str) -> None:
        header, _, rest = gzip.decompress(self._path(DAY).read_bytes()).partition(b"\n")
        self._path(DAY).write_bytes(gzip.compress(header.replace(name.encode(), new.encode()) + b"\n" + rest))

    def cut_off(self) -> None:
        whole = self._path(DAY).read_bytes()
        self._path(DAY).write_bytes(whole[: len(whole) // 2])

    def _path(self, day: date) -> Path:
        return self.folder / f"sales_{day}.csv.gz"


@dataclass
class DatabaseCase:
    contract: Contract
    database: psycopg.Connection
    uri: str
    schema: str
    keeps_one_row_a_key = False
    tells_changes = False

    def deliver(self, sales: Sequence[Sale], *, day: date = DAY) -> None:
        self._run("CREATE TABLE IF NOT EXISTS {}.sales (id bigint, amount numeric(12,2), sold_on date, note text)")
        self._run("DELETE FROM {}.sales WHERE sold_on = %s", day)
        for sale in sales:
            values = (sale.id, sale.amount, sale.sold_on, sale.note)
            self._run("INSERT INTO {}.sales VALUES (%s, %s, %s, %s)", *values)

    def source(self) -> Source:
        return DatabaseTable(uri=self.uri, table=f"{self.schema}.sales", contract=self.contract)

    def rename_column(self, name: str, new: str) -> None:
        self._run(f"ALTER TABLE {{}}.sales RENAME {name} TO {new}")

    def cut_off(self) -> None:
        """The last row's note ends the session that asks for it."""
        self._run("ALTER TABLE {}.sales RENAME TO delivered")
        self._run(
            "CREATE VIEW {0}.sales AS SELECT id, amount, sold_on, CASE WHEN id = (SELECT max(id) FROM {0}.delivered)"
            " THEN pg_terminate_backend(pg_backend_pid())::text ELSE note END AS note FROM {0}.delivered"
        )

    def _run(self, statement: str, *values: object) -> None:
        self.database.execute(statement.format(self.schema), values or None)  # type: ignore[arg-type]


@contextmanager
def csv_files(contract: Contract, folder: Path) -> Iterator[CsvCase]:
    yield CsvCase(contract, folder)


@contextmanager
def database_table(contract: Contract, folder: Path) -> Iterator[DatabaseCase]:
    settings = load_settings()
    uri = make_conninfo(
        host=LOOPBACK, port=settings.port("POSTGRES"), dbname="retail", user="retail",
        password=settings.secret("RETAIL_DB_PASSWORD"),
    )  # fmt: skip
    schema = f"contract_{uuid4().hex[:12]}"
    with psycopg.connect(uri, autocommit=True) as database:
        database.execute(f"CREATE SCHEMA {schema}")
        try:
            yield DatabaseCase(contract, database, uri, schema)
        finally:
            database.execute("SET client_min_messages = warning")
            database.execute(f"DROP SCHEMA {schema} CASCADE")


SOURCE_CASES: dict[str, Callable] = {"csv_files": csv_files, "database_table": database_table}
"""Name → context manager that takes the contract and an empty folder, and yields the case."""
