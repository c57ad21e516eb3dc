"""One window of a PostgreSQL table or query, exact and counted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tallyclerk.core.extract import Extract
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.progress import Progress
from tallyclerk.core.window import Window
from tallyclerk.exceptions import LedgerError, RecordError, SpecError
from tallyclerk.sources.database_decode import SpecialValues, decode_batch, schema_of
from tallyclerk.sources.database_errors import Address, database_errors
from tallyclerk.sources.database_query import Relation, check_time_zone, window_condition
from tallyclerk.sources.database_rejects import Provenance, RejectLog, rejects_schema
from tallyclerk.sources.database_snapshot import Snapshot, open_snapshot
from tallyclerk.sources.database_spool import ParquetSpool
from tallyclerk.sources.database_types import ColumnPlan, DescribedColumn, contract_plans, plan_column

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract

log = logging.getLogger(__name__)

_BATCHES_IN_FLIGHT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseTable:
    """Reads one window of one table or query; a :class:`~tallyclerk.core.extract.Source`.

    Guarantees: the rows are those of one snapshot; each value is exact by the table in
    :mod:`~tallyclerk.sources.database_types`, or refused; ``ledger.read`` is the server's own ``count(*)`` in that
    snapshot, taken through another driver, and the load fails when the rows read are not as many. Contiguous windows
    meet each row exactly once.

    :param uri: libpq connection URI or keyword string. Never logged or repeated.
    :param table: ``schema.table``, spelled as in the catalogue.
    :param query: a SELECT instead of a table. It runs twice, for the count and for the rows; a volatile one fails.
    :param columns: those to read, in this order; all by default, or the contract's.
    :param contract: its source columns are read, in its types, and must be there (:func:`database_types.fit`); a null
        in a required one rejects the row. Derived columns and other rules are not this source's.
    :param mode: ``incremental`` reads the rows whose ``incremental_column`` lies in ``[window.start, window.end)``;
        ``full`` reads all rows, whatever the window.
    :param incremental_column: timestamptz, timestamp or date; the contract's by default.
    :param rows_without_position: a null or infinite incremental value lies in no window: ``fail`` when there are such
        rows (one more count), or ``ignore`` them.
    :param time_zone: in which a timestamp without a zone is read.
    :param special_values: numeric NaN and ±Infinity, infinite dates, years outside 1–9999: ``fail`` (with the count by
        column), ``null``, or ``reject`` to quarantine.
    :param max_memory_bytes: Arrow memory of the extract, split between batches and the row group; the process itself
        (about 150 MB with its libraries) and single values larger than a batch come on top.
    :param dataset, load_id: for quarantine; the contract's or the table's name, and "".
    """

    uri: str = field(repr=False)
    table: str | None = None
    query: str | None = None
    columns: Sequence[str] | None = None
    contract: Contract | None = None
    mode: Literal["incremental", "full"] = "incremental"
    incremental_column: str | None = None
    rows_without_position: Literal["fail", "ignore"] = "fail"
    time_zone: str = "UTC"
    special_values: SpecialValues = "fail"
    max_memory_bytes: int = 384 << 20
    target_file_rows: int = 5_000_000
    target_file_bytes: int = 256 << 20
    dataset: str = ""
    load_id: str = ""

    def fingerprint(self, window: Window) -> str:
        """Always "": a database cannot tell what it would yield without reading it."""
        return ""

    def extract(self, window: Window, directory: Path) -> Extract:
        """Spool the window's rows into ``directory``.

        :raises SpecError: the table, a column, the query, the login or an argument is wrong.
        :raises SchemaMismatchError: a column cannot be stored in the contract's type without loss.
        :raises RecordError: special values under ``special_values="fail"``, rows without a position, or counts that
            do not agree.
        :raises ServiceUnavailableError: the server is away, ends the session or cancels the statement.
        """
        relation = self._checked_relation()
        address = Address.of(self.uri)
        with database_errors(address, relation=relation.name), open_snapshot(self.uri) as snapshot:
            described, position = self._describe(snapshot, relation)
            plans = self._plan(relation, described)
            condition = self._condition(snapshot, relation, position, window)
            counted = snapshot.count(relation, condition)
            source = f"{address.uri}/{relation.path}"
            with (
                self._spool(directory, "rows", plans) as rows,
                ParquetSpool(directory, "rejects", rejects_schema()) as rejects,
            ):
                rejected = RejectLog(rejects, self._provenance(window, source))
                query = relation.select([plan.select for plan in plans], condition)
                read = self._read(snapshot, query, plans, rows, rejected, counted)
                self._refuse_specials(relation, rejected)
                files, reject_files = rows.finish(), rejects.finish()
        ledger = Ledger(read=counted, written=sum(file.rows for file in files), rejected=rejected.records)
        if read != counted:
            raise LedgerError(
                load=f"{relation.name}@{window.key}",
                counts={"counted by the server": counted, "read": read},
                rule="the rows read are those the server counted in the same snapshot",
            )
        return Extract(
            schema=schema_of(plans),
            files=files,
            ledger=ledger.check(load=f"{relation.name}@{window.key}"),
            rejects=reject_files[0] if reject_files else None,
            sources=(self._facts(source, snapshot, counted, rejected),),
            cursor=self._cursor(position, window),
        )

    def _checked_relation(self) -> Relation:
        check_time_zone(self.time_zone)
        for name, allowed in (
            ("mode", ("incremental", "full")),
            ("rows_without_position", ("fail", "ignore")),
            ("special_values", ("fail", "null", "reject")),
        ):
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        if self.mode == "incremental" and not self._incremental_column:
            raise SpecError(
                "mode='incremental' needs an incremental_column (or a contract with one); or use mode='full'."
            )
        return Relation(self.table, self.query)

    @property
    def _incremental_column(self) -> str | None:
        if self.mode == "full":
            return None
        stated = self.contract.incremental if self.contract else None
        return self.incremental_column or (stated.column if stated else None)

    def _describe(self, snapshot: Snapshot, relation: Relation) -> tuple[list[DescribedColumn], DescribedColumn | None]:
        """The columns to read, and the incremental one, which need not be among them."""
        names = list(self.columns) if self.columns is not None else None
        if self.contract is not None and names is None:
            names = [column.name for column in self.contract.source_columns]
        position = self._incremental_column
        if names is None:
            described = snapshot.describe(relation, None)
            if position and position not in [column.name for column in described]:
                snapshot.describe(relation, [position])  # raises, with near names
        else:
            asked = names + ([position] if position and position not in names else [])
            described = snapshot.describe(relation, asked)
        found = {column.name: column for column in described}
        return [found[name] for name in names or found], found[position] if position else None

    def _plan(self, relation: Relation, described: Sequence[DescribedColumn]) -> list[ColumnPlan]:
        if self.contract is None:
            return [plan_column(column) for column in described]
        return contract_plans(relation.name, described, self.contract, time_zone=self.time_zone)

    def _condition(
        self, snapshot: Snapshot, relation: Relation, position: DescribedColumn | None, window: Window
    ) -> str:
        if position is None:
            return ""
        condition = window_condition(position, window, time_zone=self.time_zone)
        if self.rows_without_position == "fail" and (lost := snapshot.rows_without_position(relation, position)):
            raise RecordError(
                f"{lost:,} rows of {relation.name} have no place in any window: their {position.name} is null or infinite. "
                "Mend them, read with mode='full', or pass rows_without_position='ignore'."
            )
        return condition

    def _spool(self, directory: Path, prefix: str, plans: Sequence[ColumnPlan]) -> ParquetSpool:
        import pyarrow as pa

        return ParquetSpool(
            directory,
            prefix,
            schema_of(plans),
            dictionary=[plan.name for plan in plans if plan.wire == "plain" and plan.arrow == pa.string()],
            row_group_bytes=min(64 << 20, self.max_memory_bytes // 6),
            target_file_rows=self.target_file_rows,
            target_file_bytes=self.target_file_bytes,
        )

    def _read(
        self,
        snapshot: Snapshot,
        query: str,
        plans: Sequence[ColumnPlan],
        rows: ParquetSpool,
        rejected: RejectLog,
        counted: int,
    ) -> int:
        """Fetch in this thread, decode and write in a second one, at most two batches apart."""

        def write(batch: pa.RecordBatch, first_record: int) -> int:
            decoded = decode_batch(batch, plans, self.special_values)
            rejected.add(decoded, first_record)
            rows.add(decoded.rows)
            return batch.num_rows

        progress = Progress(log, self.table or "query", total=counted)
        pending: deque[Future[int]] = deque()
        read = 0
        batches = snapshot.batches(query, batch_bytes=min(16 << 20, self.max_memory_bytes // 24))
        with ThreadPoolExecutor(1, thread_name_prefix="tallyclerk-spool") as writer, closing(batches):
            for batch in batches:
                pending.append(writer.submit(write, batch, read + 1))
                read += batch.num_rows
                if len(pending) >= _BATCHES_IN_FLIGHT:
                    progress.add(pending.popleft().result())
            while pending:
                progress.add(pending.popleft().result())
        progress.done()
        return read

    def _refuse_specials(self, relation: Relation, rejected: RejectLog) -> None:
        if self.special_values == "fail" and (listed := rejected.summary("special_value")):
            raise RecordError(
                f"{relation.name} holds values without a counterpart in the lake (NaN, infinity, or a year outside 1–9999): "
                f"{listed}. For example {'; '.join(rejected.examples)}. Nothing was committed. Mend them, or pass "
                "special_values='null' or 'reject'."
            )

    def _provenance(self, window: Window, source: str) -> Provenance:
        contract = self.contract
        return Provenance(
            dataset=self.dataset or (contract.dataset if contract else self.table or "query"),
            window=window.key,
            source=source,
            load_id=self.load_id,
            contract_version=contract.version if contract else "",
        )

    def _facts(self, source: str, snapshot: Snapshot, counted: int, rejected: RejectLog) -> dict[str, Any]:
        facts = {"uri": source, "records": counted, "snapshot": snapshot.transactions, "mode": self.mode}
        if rejected.nulled:
            facts["nulled"] = dict(rejected.nulled)
        return facts

    @staticmethod
    def _cursor(position: DescribedColumn | None, window: Window) -> dict[str, Any]:
        if position is None:
            return {}
        return {"column": position.name, "from": window.start.isoformat(), "to": window.end.isoformat()}
