"""The sinks that the suite holds to one standard, each with a real table of its own.

Another sink: a class with the methods of :class:`SinkCase`, and its entry in ``SINK_CASES``.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from hdfs_native import Client

from stack.settings import LOOPBACK, load_settings
from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.receipt import Receipt
from tallyclerk.core.window import Window
from tallyclerk.sinks.lake_table import LakeTable
from tests.integration.cassandra.upsert_case import SALES, Case, connect, new_target

Row = tuple[Any, ...]


class SinkCase(Protocol):
    """One kind of sink over a table of the test's own, which begins empty, for rows of ``upsert_case.SALES``."""

    def write(self, rows: pa.Table, day: date) -> Receipt:
        """One whole load: these rows are the day's."""

    def rows(self) -> dict[uuid.UUID, Row]:
        """What any reader finds, all days, by id: household as text, amount, quantity, note. Fails on a doubled id."""

    def change_schema(self) -> None:
        """Give the table another column type than the loads', behind their back."""


@dataclass
class LakeTableCase:
    uri: str
    folder: Path

    def write(self, rows: pa.Table, day: date) -> Receipt:
        return self._table().replace_window(Window.of_day(day), (self._spool(rows),), _receipt(rows, day, self.uri))

    def rows(self) -> dict[uuid.UUID, Row]:
        found = DeltaTable(self.uri).to_pyarrow_table(columns=SALES.names).to_pylist()
        by_id = {uuid.UUID(row["id"]): (str(row["household"]), *list(row.values())[2:]) for row in found}
        assert len(by_id) == len(found)
        return by_id

    def change_schema(self) -> None:
        other = SALES.set(SALES.get_field_index("amount"), pa.field("amount", pa.decimal128(14, 4)))
        rows = pa.table({name: [] for name in SALES.names}, schema=other)
        table = LakeTable(self.uri, dataset="other", schema=other)
        day = date(2017, 1, 1)
        table.replace_window(Window.of_day(day), (), _receipt(rows, day, self.uri))

    def _table(self) -> LakeTable:
        return LakeTable(self.uri, dataset="sales", schema=SALES)

    def _spool(self, rows: pa.Table) -> SpooledFile:
        path = self.folder / f"{uuid.uuid4().hex}.parquet"
        pq.write_table(rows, path)
        return SpooledFile(path, rows.num_rows)


@dataclass
class CassandraCase:
    """Loads from a lake table, whose day is written anew only where its rows change: two loads at once are of one version."""

    case: Case
    lock: threading.Lock = field(default_factory=threading.Lock)
    lake: dict[date, pa.Table] = field(default_factory=dict)

    def write(self, rows: pa.Table, day: date) -> Receipt:
        with self.lock:
            if day not in self.lake or not rows.equals(self.lake[day]):
                self.case.write_lake(rows, day)
                self.lake[day] = rows
        self.case.sink().create()
        self.case.sink().check_schema()
        return self.case.load(day=day, allow_empty=True)

    def rows(self) -> dict[uuid.UUID, Row]:
        return self.case.rows()

    def change_schema(self) -> None:
        self.case.sink().create()
        name = self.case.target.cql_name
        self.case.session.execute(f"DROP TABLE {name}")
        self.case.session.execute(
            f"CREATE TABLE {name} (id uuid PRIMARY KEY, household text, amount double, quantity int, note text)"
        )


def _receipt(rows: pa.Table, day: date, location: str) -> Receipt:
    return Receipt(
        dataset="sales",
        window=day.isoformat(),
        ledger=Ledger(read=rows.num_rows, written=rows.num_rows),
        location=location,
        load_id=uuid.uuid4().hex,
    )


@contextmanager
def lake_table(folder: Path) -> Iterator[LakeTableCase]:
    with _hdfs_folder() as uri:
        yield LakeTableCase(f"{uri}/sales", folder)


@contextmanager
def cassandra_upsert(folder: Path) -> Iterator[CassandraCase]:
    with _hdfs_folder() as uri, connect(load_settings().port("CASSANDRA")) as cluster:
        case = Case(cluster.connect(), f"{uri}/sales", new_target(f"contract_{uuid.uuid4().hex[:12]}"))
        try:
            yield CassandraCase(case)
        finally:
            case.session.execute(f"DROP KEYSPACE IF EXISTS {case.target.keyspace}")


@contextmanager
def _hdfs_folder() -> Iterator[str]:
    address = f"hdfs://{LOOPBACK}:{load_settings().port('HDFS')}"
    path = f"/tmp/tests/contract/{uuid.uuid4().hex}"
    yield f"{address}{path}"
    Client(address).delete(path, recursive=True)


SINK_CASES: dict[str, Callable] = {"lake_table": lake_table, "cassandra_upsert": cassandra_upsert}
"""Name → context manager that takes an empty folder and yields the case."""
