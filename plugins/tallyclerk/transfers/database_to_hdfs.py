"""A database table or query to the lake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tallyclerk.transfers.base import LakeLoadOperator

if TYPE_CHECKING:
    from tallyclerk.contracts import Contract
    from tallyclerk.core.extract import Source


class DatabaseToHdfsOperator(LakeLoadOperator):
    """Load one PostgreSQL table or query into a Delta table on HDFS, from one snapshot, in exact types.

    See :class:`~tallyclerk.transfers.base.LakeLoadOperator` for the guarantee and the common parameters, and
    :class:`~tallyclerk.sources.database_table.DatabaseTable` for types and special values.

    :param database_conn_id: connection of type ``postgres``.
    :param table: ``schema.table``. Templated.
    :param query: a SELECT instead of a table. Templated.
    :param mode: ``incremental`` (rows whose ``incremental_column`` lies in the window) or ``full`` (all rows, as they
        are when the task runs).
    :param incremental_column: the contract's when None.
    :param special_values: NaN, infinities and years outside 1-9999: ``fail``, ``null`` or ``reject``.
    """

    template_fields: Sequence[str] = (*LakeLoadOperator.template_fields, "table", "query")

    def __init__(
        self,
        *,
        database_conn_id: str,
        table: str | None = None,
        query: str | None = None,
        mode: str = "incremental",
        incremental_column: str | None = None,
        special_values: str = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.database_conn_id, self.table, self.query = database_conn_id, table, query
        self.mode, self.incremental_column, self.special_values = mode, incremental_column, special_values

    def make_source(self, contract: Contract, load_id: str) -> Source:
        from tallyclerk.hooks.relational import RelationalHook
        from tallyclerk.sources.database_table import DatabaseTable

        return DatabaseTable(
            uri=RelationalHook(self.database_conn_id).conninfo,
            table=self.table,
            query=self.query,
            contract=contract,
            mode=self.mode,  # type: ignore[arg-type]
            incremental_column=self.incremental_column,
            special_values=self.special_values,  # type: ignore[arg-type]
            dataset=contract.dataset,
            load_id=load_id,
        )
