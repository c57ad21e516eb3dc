"""Final versions of changed rows, by querying the table: change capture without a log, a slot, or a column of times.

See :mod:`~tallyclerk.sources.transaction_ids` for why nothing is lost. What a query cannot see:

* **no deletion**: a row that is gone is nowhere in the table;
* **no version in between**: of several changes between two runs the last one;
* **no commit time**, and not whether a row is new or changed: both are ``u``;
* rows of a partition that was filled elsewhere and then attached: they were written long before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tallyclerk.contracts.changes import READ, UPDATE, change_schema
from tallyclerk.core.ledger import Ledger
from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.sources.database_changes import (
    PART_BYTES,
    PART_ROWS,
    Begin,
    ChangePiece,
    ServerIdentity,
    check_cursor,
    joined,
    read_events,
)
from tallyclerk.sources.database_decode import SpecialValues
from tallyclerk.sources.database_errors import Address, database_errors
from tallyclerk.sources.database_query import Relation, check_time_zone
from tallyclerk.sources.database_rejects import Provenance
from tallyclerk.sources.database_rows import ReadRows, Rejects, plan_rows, read_rows, recent
from tallyclerk.sources.database_snapshot import Snapshot, open_snapshot
from tallyclerk.sources.database_types import ColumnPlan
from tallyclerk.sources.transaction_ids import TransactionSpan, pack_ids, unpack_ids

if TYPE_CHECKING:
    import pyarrow as pa

    from tallyclerk.contracts.model import Contract
    from tallyclerk.sources.transaction_ids import Numbers

log = logging.getLogger(__name__)

METHOD = "query"
_XMIN = "__xmin"
BLIND = "query capture sees final versions only: no deletions, and no versions between two runs"
"""Stands in each receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryChanges:
    """Reads what changed in a table since the last run; a :class:`~tallyclerk.sources.database_changes.ChangeSource`.

    Guarantees: of each row that is committed and still there, the version that one run's snapshot shows is sent by that run, or
    was sent by an earlier one; and a version is sent once. Deletions and versions in between are not seen. Each run
    reads the table from end to end (no index knows ``xmin``), in one snapshot, counted by the server.

    Every row is read again, as op ``r``, when the server's identity or timeline is another than at the position, or the position
    is more than two billion transactions old.

    A run with more rows than a part (800,000) sends several transactions. When it dies between two of them, the next run
    sends the first ones' rows once more.

    :param uri: libpq connection URI or keyword string. Never logged or repeated.
    :param table: an ordinary or partitioned table; a view has no ``xmin``.
    :param begin: what the first run sends. ``recent``: the rows of the last ``lookback_minutes`` by ``incremental_column``.
    :param begin_anew: read every row again, as if there were no position.
    :param load_id, dataset: for quarantine.
    """

    uri: str = field(repr=False)
    table: str
    contract: Contract
    begin: Begin = "all"
    lookback_minutes: int = 0
    incremental_column: str | None = None
    begin_anew: bool = False
    time_zone: str = "UTC"
    special_values: SpecialValues = "fail"
    part_rows: int = PART_ROWS
    part_bytes: int = PART_BYTES
    dataset: str = ""
    load_id: str = ""

    def pieces(self, cursor: Mapping[str, Any], window: Window, directory: Path) -> Iterator[ChangePiece]:
        """The changed rows since ``cursor``; see :class:`~tallyclerk.sources.database_changes.ChangeSource`.

        :raises SpecError: the table, a column, the login or an argument is wrong.
        :raises SchemaMismatchError: a column cannot be stored in the contract's type without loss.
        :raises RecordError: special values, under the policy ``fail``, or counts that do not agree.
        :raises TransientError: the server is away, or a transaction that stays open holds too many others back.
        """
        check_time_zone(self.time_zone)
        for name, allowed in (("begin", ("all", "recent", "nothing")), ("special_values", ("fail", "null", "reject"))):
            if getattr(self, name) not in allowed:
                raise SpecError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}.")
        check_cursor(cursor, method=METHOD, table=self.table)
        address, relation = Address.of(self.uri), Relation(self.table)
        source = f"{address.uri}/{relation.path}"
        provenance = Provenance(
            dataset=self.dataset or self.contract.dataset, window=window.key, source=source, load_id=self.load_id,
            contract_version=self.contract.version,
        )  # fmt: skip
        with database_errors(address, relation=self.table), open_snapshot(self.uri) as snapshot:
            plans = [*plan_rows(snapshot, relation, self.contract, time_zone=self.time_zone), _xmin_plan()]
            _refuse_views(snapshot, relation)
            span = TransactionSpan.of(snapshot.transactions)
            server = ServerIdentity.of(snapshot.connection)
            run = self._plan(snapshot, relation, span, server, cursor)
            facts: dict[str, Any] = {
                "uri": source,
                "method": METHOD,
                "snapshot": snapshot.transactions,
                "records": 0,
                "blind": BLIND,
            }
            if run.anew:
                log.warning("%s: every row is read again: %s", source, run.anew)
                facts["begun_anew"] = run.anew
            position = {"method": METHOD, "table": self.table, **server.as_dict(), "horizon": span.horizon}
            parts = read_rows(
                snapshot, relation, plans, run.condition, Rejects(directory, provenance, self.special_values),
                part_rows=self.part_rows, part_bytes=self.part_bytes,
            )  # fmt: skip
            seen: list[Numbers] = []
            for part in parts:
                facts["records"] += part.read
                rows = self._fresh(part, run, span, seen)
                yield ChangePiece(
                    rows=rows,
                    ledger=_account(part, rows.num_rows).check(load=self.table),
                    cursor={**position, "seen": _packed(seen, span.horizon)} if part.last else dict(cursor),
                    last=part.last,
                    rejects=part.rejects,
                    facts=dict(facts),
                )

    def _plan(
        self,
        snapshot: Snapshot,
        relation: Relation,
        span: TransactionSpan,
        server: ServerIdentity,
        cursor: Mapping[str, Any],
    ) -> _RunPlan:
        if not cursor and self.begin == "recent":
            condition = recent(
                snapshot, relation, self.contract,
                column=self.incremental_column, minutes=self.lookback_minutes, time_zone=self.time_zone,
            )  # fmt: skip
            return _RunPlan(condition)
        if not cursor:
            return _RunPlan("false" if self.begin == "nothing" else "")
        horizon = int(cursor["horizon"])
        anew = "as asked" if self.begin_anew else server.difference(cursor)
        if anew is None and not span.reaches(horizon):
            anew = f"the position is of transaction {horizon}, the server at {span.end}"
        if anew is not None:
            return _RunPlan("", anew=anew)
        return _RunPlan(span.since(horizon), op=UPDATE, seen=cursor["seen"], horizon=horizon)

    def _fresh(self, part: ReadRows, run: _RunPlan, span: TransactionSpan, seen: list[Numbers]) -> pa.Table:
        """The events of the versions that no earlier run has sent; notes the transactions of all of them."""
        import numpy as np
        import pyarrow as pa

        before = unpack_ids(run.seen, run.horizon)
        tables = []
        for batch in part.batches:
            ids = span.full_ids(batch.column(_XMIN).to_numpy())
            seen.append(np.unique(ids[ids >= span.horizon]))
            rows = batch.filter(pa.array(~np.isin(ids, before))) if len(before) else batch
            tables.append(read_events(rows, self.contract, op=run.op))
        return joined(tables, change_schema(self.contract))


@dataclass(frozen=True, slots=True)
class _RunPlan:
    """What one run reads: the rows of a condition, as which op, and without those that transactions in ``seen`` wrote.

    :param anew: why there is no going on from the position.
    """

    condition: str
    op: str = READ
    seen: str = ""
    horizon: int = 0
    anew: str | None = None


def _refuse_views(snapshot: Snapshot, relation: Relation) -> None:
    row = snapshot.connection.execute(
        "SELECT relkind::text FROM pg_class WHERE oid = %s::regclass", [relation.from_sql]
    )
    if row.fetchone() not in (("r",), ("p",), ("m",)):
        raise SpecError(f"{relation.name} is no table; a view has no xmin. Capture the tables it is made of.")


def _xmin_plan() -> ColumnPlan:
    import pyarrow as pa

    return ColumnPlan(_XMIN, "xid", "xmin::text::bigint", "plain", pa.int64(), required=True)


def _account(part: ReadRows, written: int) -> Ledger:
    kept = sum(batch.num_rows for batch in part.batches)
    return Ledger(read=part.read, written=written, rejected=part.rejected, deduplicated=kept - written)


def _packed(seen: list[Numbers], horizon: int) -> str:
    import numpy as np

    return pack_ids(np.concatenate(seen) if seen else np.empty(0, np.int64), horizon)
