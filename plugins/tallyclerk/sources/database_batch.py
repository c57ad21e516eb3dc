"""The rows of a table as events: a full or incremental load for the readers of a topic of changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.changes import READ, change_schema
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.sources.database_changes import PART_BYTES, PART_ROWS, ChangePiece, joined, read_events
from tallyclerk.sources.database_decode import SpecialValues
from tallyclerk.sources.database_errors import Address, database_errors
from tallyclerk.sources.database_query import Relation, check_time_zone, window_condition
from tallyclerk.sources.database_rejects import Provenance
from tallyclerk.sources.database_rows import Rejects, plan_rows, read_rows
from tallyclerk.sources.database_snapshot import Snapshot, open_snapshot

if TYPE_CHECKING:
    from tallyclerk.contracts.model import Contract

METHOD = "batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRows:
    """Reads a table's rows, all of them or a window's, from one snapshot; a
    :class:`~tallyclerk.sources.database_changes.ChangeSource` that has no position.

    :param uri: libpq connection URI or keyword string. Never logged or repeated.
    :param incremental_column: only the rows for which it lies in the window; None reads all.
    :param load_id, dataset: for quarantine.
    """

    uri: str = field(repr=False)
    table: str
    contract: Contract
    incremental_column: str | None = None
    time_zone: str = "UTC"
    special_values: SpecialValues = "fail"
    part_rows: int = PART_ROWS
    part_bytes: int = PART_BYTES
    dataset: str = ""
    load_id: str = ""

    def pieces(self, cursor: Mapping[str, Any], window: Window, directory: Path) -> Iterator[ChangePiece]:
        """The rows; see :class:`~tallyclerk.sources.database_changes.ChangeSource`.

        :raises SpecError: the table, a column, the login or an argument is wrong.
        :raises SchemaMismatchError: a column cannot be stored in the contract's type without loss.
        :raises RecordError: special values, under the policy ``fail``, or counts that do not agree.
        :raises ServiceUnavailableError: the server is away.
        """
        check_time_zone(self.time_zone)
        address, relation = Address.of(self.uri), Relation(self.table)
        source = f"{address.uri}/{relation.path}"
        provenance = Provenance(
            dataset=self.dataset or self.contract.dataset, window=window.key, source=source, load_id=self.load_id,
            contract_version=self.contract.version,
        )  # fmt: skip
        with database_errors(address, relation=self.table), open_snapshot(self.uri) as snapshot:
            plans = plan_rows(snapshot, relation, self.contract, time_zone=self.time_zone)
            parts = read_rows(
                snapshot, relation, plans, self._condition(snapshot, relation, window),
                Rejects(directory, provenance, self.special_values), part_rows=self.part_rows, part_bytes=self.part_bytes,
            )  # fmt: skip
            facts: dict[str, Any] = {"uri": source, "method": METHOD, "snapshot": snapshot.transactions, "records": 0}
            for part in parts:
                facts["records"] += part.read
                tables = [read_events(batch, self.contract, op=READ) for batch in part.batches]
                rows = joined(tables, change_schema(self.contract))
                yield ChangePiece(
                    rows=rows,
                    ledger=Ledger(read=part.read, written=rows.num_rows, rejected=part.rejected).check(load=self.table),
                    cursor={},
                    last=part.last,
                    rejects=part.rejects,
                    facts=dict(facts),
                )

    def _condition(self, snapshot: Snapshot, relation: Relation, window: Window) -> str:
        if self.incremental_column is None:
            return ""
        (column,) = snapshot.describe(relation, [self.incremental_column])
        if lost := snapshot.rows_without_position(relation, column):
            raise SpecError(
                f"{lost:,} rows of {relation.name} have no place in any window: their {column.name} is null or infinite. "
                "Mend them, or load all rows."
            )
        return window_condition(column, window, time_zone=self.time_zone)
