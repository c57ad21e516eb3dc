"""From decoded log messages to events in the contract's types, with what does not fit set aside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tallyclerk.contracts.changes import CREATE, DELETE, UPDATE, change_key, change_schema
from tallyclerk.exceptions import SchemaMismatchError, TerminalError
from tallyclerk.sources.database_changes import events
from tallyclerk.sources.database_decode import DecodedBatch, Finding, decode_batch
from tallyclerk.sources.database_query import resolve_types
from tallyclerk.sources.database_rejects import RejectLog
from tallyclerk.sources.database_rows import Rejects
from tallyclerk.sources.database_types import contract_plans
from tallyclerk.sources.pgoutput import LoggedChanges
from tallyclerk.sources.pgoutput_values import TextColumn, ask_server, driver_batch
from tallyclerk.sources.pgoutput_wire import LoggedTable

if TYPE_CHECKING:
    import psycopg
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract
    from tallyclerk.sources.pgoutput_wire import Bytes, Flags

OPS = CREATE + DELETE + UPDATE
"""In alphabetical order."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What was gathered: events, and the account of the changes that were read for them.

    :param repeated: changes that an earlier run has sent.
    """

    rows: pa.Table
    rejects: pa.Table | None
    read: int
    rejected: int
    repeated: int


class LogEvents:
    """Gathers events until they are taken.

    :param since, sent: changes of commits before ``since`` were sent earlier, and of those after it the first ``sent`` ones.
    """

    def __init__(
        self,
        contract: Contract,
        table: str,
        connection: psycopg.Connection,
        rejects: Rejects,
        *,
        time_zone: str,
        since: int,
        sent: int,
    ) -> None:
        self._contract, self._table, self._connection, self._rejects = contract, table, connection, rejects
        self._time_zone, self._since, self._sent = time_zone, since, sent
        self._schema, self._key = change_schema(contract), change_key(contract)
        self._required = [
            column.name for column in contract.source_columns if column.required and column.name not in self._key
        ]
        self._ask = ask_server(connection)
        self._columns: dict[LoggedTable, list[TextColumn]] = {}
        self._waiting: list[pa.Table] = []
        self._log: RejectLog = rejects.open()
        self._read = self._repeated = 0
        self.rows = self.size = 0
        self.position = 0
        """Changes after ``since`` that were gathered so far, those taken included."""

    def add(self, changes: LoggedChanges) -> None:
        """:raises SchemaMismatchError: the table's columns are not the contract's any more.
        :raises TerminalError: a large value was not logged.
        """
        import numpy as np

        if changes.untold:
            listed = ", ".join(f"{name} ({count:,} times)" for name, count in changes.untold)
            raise TerminalError(
                f"The log of {self._table} does not have the large values of {listed}: its REPLICA IDENTITY was not FULL when they "
                "were left unchanged. Set it to FULL and begin anew; nothing of this piece was sent."
            )
        self._read += changes.rows
        fresh = changes.commit_lsn >= self._since
        number = np.cumsum(fresh) + self.position  # from 1, of each change after the position
        fresh &= number > self._sent
        self.position = int(number[-1])
        if not fresh.all():
            self._repeated += int(np.count_nonzero(~fresh))
            changes = _only(changes, fresh)
        if changes.rows:
            self._decode(changes)

    def take(self) -> Decoded:
        """The events since the last call. :raises RecordError: special values, under the policy ``fail``."""
        import pyarrow as pa

        rows = pa.concat_tables(self._waiting) if self._waiting else self._schema.empty_table()
        found = self._rejects.close(self._log, table=self._table)
        taken = Decoded(rows, found, self._read, self._log.records, self._repeated)
        self._waiting, self._log = [], self._rejects.open()
        self._read = self._repeated = self.rows = self.size = 0
        return taken

    def _decode(self, changes: LoggedChanges) -> None:
        import numpy as np
        import pyarrow as pa

        columns = self._columns_of(changes.table)
        texts = [changes.texts[self._place(changes.table, column.plan.name)] for column in columns]
        decoded = decode_batch(
            driver_batch(texts, columns, self._ask), [column.plan for column in columns], self._rejects.policy
        )
        decoded = self._without_incomplete(decoded, changes.ops)
        self._log.add(decoded, self._read - changes.rows + 1)
        kept = np.delete(np.arange(changes.rows), decoded.rejected)
        letters = np.frombuffer(OPS.encode(), np.uint8)
        table = events(
            decoded.rows,
            self._contract,
            ops=pa.array(list(OPS)).take(pa.array(np.searchsorted(letters, changes.ops[kept]))),
            lsn=pa.array(changes.commit_lsn[kept]),
            committed_ms=pa.array(changes.committed_us[kept] // 1000),
        )
        self._waiting.append(table)
        self.rows += table.num_rows
        self.size += table.nbytes

    def _without_incomplete(self, decoded: DecodedBatch, ops: Bytes) -> DecodedBatch:
        """Reject rows without a value that the contract requires. Only a deletion need not have it."""
        import numpy as np
        import pyarrow as pa

        index = np.delete(np.arange(len(ops)), decoded.rejected)
        alive = ops[index] != ord(DELETE)
        bad = np.zeros(len(index), bool)
        findings = list(decoded.findings)
        for name in self._required:
            values = decoded.rows.column(name)
            if values.null_count:
                missing = values.is_null().to_numpy(zero_copy_only=False) & alive
                if missing.any():
                    findings.append(Finding(name, "required", "a required column is null", index[missing]))
                bad |= missing
        if not bad.any():
            return decoded
        return replace(
            decoded,
            rows=decoded.rows.filter(pa.array(~bad)),
            rejected=np.union1d(decoded.rejected, index[bad]),
            findings=tuple(findings),
        )

    def _columns_of(self, table: LoggedTable) -> list[TextColumn]:
        """How each of the contract's columns is read in this version of the table, in the contract's order."""
        if table not in self._columns:
            names = [column.name for column in self._contract.source_columns]
            if missing := [name for name in names if table.position(name) is None]:
                raise SchemaMismatchError(
                    table=f"{self._table} (in the log)",
                    differences=[f"{name} is not there any more" for name in missing],
                )
            logged = [table.columns[self._place(table, name)] for name in names]
            with self._connection.cursor() as cursor:
                described = resolve_types(cursor, [(column.name, column.oid, column.typmod) for column in logged])
            plans = contract_plans(f"{self._table} (in the log)", described, self._contract, time_zone=self._time_zone)
            # a deletion may have nothing but its key; of other changes more is asked for later
            self._columns[table] = [
                TextColumn.of(column, replace(plan, required=plan.name in self._key), time_zone=self._time_zone)
                for column, plan in zip(described, plans, strict=True)
            ]
        return self._columns[table]

    @staticmethod
    def _place(table: LoggedTable, name: str) -> int:
        place = table.position(name)
        assert place is not None
        return place


def _only(changes: LoggedChanges, wanted: Flags) -> LoggedChanges:
    import pyarrow as pa

    mask = pa.array(wanted)
    return replace(
        changes,
        ops=changes.ops[wanted],
        commit_lsn=changes.commit_lsn[wanted],
        committed_us=changes.committed_us[wanted],
        texts=tuple(text.filter(mask) for text in changes.texts),
    )
