"""Rows of a table in a snapshot, in the contract's types, counted by the server: how a change capture begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tallyclerk.contracts.projections import quoted
from tallyclerk.exceptions import LedgerError, RecordError, SpecError
from tallyclerk.sources.database_decode import SpecialValues, decode_batch
from tallyclerk.sources.database_query import Relation
from tallyclerk.sources.database_rejects import Provenance, RejectLog, rejects_schema
from tallyclerk.sources.database_snapshot import Snapshot
from tallyclerk.sources.database_spool import ParquetSpool
from tallyclerk.sources.database_types import DATE, TIMESTAMP, TIMESTAMPTZ, ColumnPlan, contract_plans, literal

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract

_BATCH_BYTES = 8 << 20


@dataclass(slots=True)
class Rejects:
    """The rejected records of one piece, by way of a spool on disk."""

    directory: Path
    provenance: Provenance
    policy: SpecialValues
    _pieces: int = 0

    def open(self) -> RejectLog:
        self._pieces += 1
        spool = ParquetSpool(self.directory, f"rejects-{self._pieces:05d}", rejects_schema())
        return RejectLog(spool, self.provenance)

    def close(self, log: RejectLog, *, table: str) -> pa.Table | None:
        """The rejects of a piece, None when there are none.

        :raises RecordError: special values, under the policy ``fail``.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with log.spool as spool:
            if self.policy == "fail" and (listed := log.summary("special_value")):
                raise RecordError(
                    f"{table} holds values without a counterpart in the lake (NaN, infinity, or a year outside 1–9999): "
                    f"{listed}. For example {'; '.join(log.examples)}. Nothing was sent. Mend them, or pass "
                    "special_values='null' or 'reject'."
                )
            files = spool.finish()
        if not files:
            return None
        found = pa.concat_tables([pq.read_table(file.path, schema=rejects_schema()) for file in files])
        for file in files:
            file.path.unlink()
        return found


@dataclass(frozen=True, slots=True)
class ReadRows:
    """A part of what a condition selects. :param last: all rows were read, as many as the server counted."""

    batches: tuple[pa.RecordBatch, ...]
    rejects: pa.Table | None
    read: int
    rejected: int
    last: bool


def read_rows(
    snapshot: Snapshot,
    relation: Relation,
    plans: Sequence[ColumnPlan],
    condition: str,
    rejects: Rejects,
    *,
    part_rows: int,
    part_bytes: int,
) -> Iterator[ReadRows]:
    """The rows of a condition in parts, each at most of ``part_rows`` and ``part_bytes`` and one batch; at least one part.

    :raises LedgerError: before the last part: the driver's rows are not as many as the server counted in the snapshot.
    """
    counted = snapshot.count(relation, condition)
    query = relation.select([plan.select for plan in plans], condition)
    kept: list[pa.RecordBatch] = []
    held = size = read = before = 0
    log = rejects.open()
    with closing(snapshot.batches(query, batch_bytes=_BATCH_BYTES)) as batches:
        for batch in batches:
            if kept and (held + batch.num_rows > part_rows or size + batch.nbytes > part_bytes):
                found = rejects.close(log, table=relation.name)
                yield ReadRows(tuple(kept), found, read - before, log.records, last=False)
                kept, held, size, before, log = [], 0, 0, read, rejects.open()
            decoded = decode_batch(batch, plans, rejects.policy)
            log.add(decoded, read + 1)
            read += batch.num_rows
            held += batch.num_rows
            size += decoded.rows.nbytes
            kept.append(decoded.rows)
    if read != counted:
        raise LedgerError(
            load=relation.name,
            counts={"counted by the server": counted, "read": read},
            rule="the rows read are those the server counted in the same snapshot",
        )
    found = rejects.close(log, table=relation.name)
    yield ReadRows(tuple(kept), found, read - before, log.records, last=True)


def plan_rows(snapshot: Snapshot, relation: Relation, contract: Contract, *, time_zone: str) -> list[ColumnPlan]:
    """The contract's source columns in the table, in the contract's order.

    :raises SpecError: a column is missing. :raises SchemaMismatchError: one has a type that does not fit.
    """
    names = [column.name for column in contract.source_columns]
    return contract_plans(relation.name, snapshot.describe(relation, names), contract, time_zone=time_zone)


def recent(
    snapshot: Snapshot, relation: Relation, contract: Contract, *, column: str | None, minutes: int, time_zone: str
) -> str:
    """The condition of the rows whose incremental column lies in the last minutes before the snapshot.

    :param column: the contract's when None.
    :raises SpecError: there is no such column, or it is no date or timestamp.
    """
    name = column or (contract.incremental.column if contract.incremental else None)
    if name is None:
        raise SpecError("lookback_minutes needs an incremental_column, or a contract with one.")
    (described,) = snapshot.describe(relation, [name])
    # one instant for both of the snapshot's connections, whose own now() differ
    row = snapshot.connection.execute("SELECT (now() - make_interval(mins => %s))::text", [minutes]).fetchone()
    assert row is not None
    since = f"TIMESTAMPTZ {literal(row[0])}"
    forms = {
        TIMESTAMPTZ: since,
        TIMESTAMP: f"({since} AT TIME ZONE {literal(time_zone)})",
        DATE: f"({since} AT TIME ZONE {literal(time_zone)})::date",
    }
    if described.oid not in forms:
        raise SpecError(f"{relation.name}.{name} is {described.type_name}; lookback_minutes needs a date or timestamp.")
    return f"{quoted(name)} >= {forms[described.oid]}"
