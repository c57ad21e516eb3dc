"""What OpenLineage's provider asks an operator for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from tallyclerk.core.receipt import Receipt
    from tallyclerk.lineage.facets import Columns


class TellsLineage:
    """Tells OpenLineage the loads that an operator remembers. The provider calls these methods in the task's own process, when it is
    installed and has somewhere to send to; what it does with an error is to log it."""

    _receipts: tuple[Receipt, ...] = ()
    _unsigned: Receipt | None = None

    def remember(self, receipt: Receipt) -> None:
        """A load that is committed."""
        self._receipts, self._unsigned = (*self._receipts, receipt), None

    def remember_unsigned(self, receipt: Receipt) -> None:
        """A load whose rows are read and accounted for, and not committed: known where the commit fails."""
        self._unsigned = receipt

    def lineage_columns(self) -> Columns:
        """The columns of what the task reads and stores; for subclasses."""
        from tallyclerk.lineage.facets import Columns

        return Columns()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage:
        from tallyclerk.lineage.facets import lineage_of

        return lineage_of(self._receipts, self.lineage_columns())

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage:
        """The loads that were done before the failure; the one that failed tells what it read, and nothing that it wrote."""
        from tallyclerk.lineage.facets import lineage_of

        return lineage_of(self._receipts, self.lineage_columns(), unsigned=self._unsigned)
