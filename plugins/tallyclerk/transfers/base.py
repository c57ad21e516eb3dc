"""What every load does around its source and sink: find the window, spool, publish the receipt."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow.sdk import BaseOperator

from tallyclerk.core.receipt import Receipt, load_name
from tallyclerk.core.window import Window, resolve_window
from tallyclerk.lineage.telling import TellsLineage

if TYPE_CHECKING:
    from airflow.sdk import BaseHook, Context

    from tallyclerk.contracts import Contract
    from tallyclerk.core.extract import Source
    from tallyclerk.hooks.lake import LakeHook
    from tallyclerk.lineage.facets import Columns
    from tallyclerk.sinks.lake_table import LakeTable


def window_of(context: Context) -> Window:
    """The window of the running Dag run, by :func:`~tallyclerk.core.window.resolve_window`."""
    run = context["dag_run"]
    return resolve_window(
        conf=run.conf,
        partition_key=getattr(run, "partition_key", None),
        data_interval_start=run.data_interval_start,
        data_interval_end=run.data_interval_end,
        run_after=run.run_after,
    )


def living_window_of(context: Context) -> Window:
    """For what goes on while the window lasts: what the run's conf or partition names; else the UTC day in which the run began,
    not the one before."""
    run = context["dag_run"]
    named = {"date", "window_start", "window_end"} & set(run.conf or {})
    if named or getattr(run, "partition_key", None):
        return window_of(context)
    return Window.of_day(run.run_after.astimezone(UTC).date())


class LoadOperator(TellsLineage, BaseOperator):
    """Base of the operators that load a window: one receipt per load, published wherever Airflow looks."""

    contract: str
    """Path of the data contract, which each subclass takes."""

    def lineage_columns(self) -> Columns:
        from tallyclerk.contracts import load_contract
        from tallyclerk.lineage.facets import Columns

        contract = load_contract(self.contract)
        return Columns(read=self.read_columns(contract), stored=self.stored_columns(contract))

    def read_columns(self, contract: Contract) -> dict[str, str]:
        """Column → type of what the load reads, for its lineage; for subclasses whose source has others than the contract."""
        return {column.name: column.type for column in contract.source_columns}

    def stored_columns(self, contract: Contract) -> dict[str, str]:
        """Column → type of what the load writes, for its lineage; for subclasses whose sink has others than the contract."""
        return {column.name: column.type for column in contract.columns}

    def publish(self, receipt: Receipt, context: Context, hook: BaseHook) -> dict[str, Any]:
        """Tell the receipt to the log, the asset events of the task's outlets and the lineage; return it for XCom.

        All of these are mirrors: the receipt that counts stands in the sink's commit.
        """
        from airflow.sdk.lineage import get_hook_lineage_collector

        repeated = " (held already: nothing was written)" if receipt.repeated else ""
        self.log.info("%s: %s%s", receipt.load, receipt.ledger, repeated)
        facts = receipt.as_dict()
        self.remember(receipt)
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"receipt": facts}
        lineage = get_hook_lineage_collector()
        for source in receipt.sources:
            self._mirror(lineage.add_input_asset, hook, uri=source["uri"])
        self._mirror(lineage.add_output_asset, hook, uri=receipt.location, asset_extra={"window": receipt.window})
        return facts

    def _mirror(self, add: Callable[..., None], hook: BaseHook, *, uri: str, **facts: Any) -> None:
        """Tell the lineage of one asset. What is committed stands, also where a stock provider refuses the asset's URI, as
        that of a query, which names no table."""
        try:
            add(hook, uri=uri, **facts)
        except ValueError as refusal:
            self.log.info("the lineage leaves out %s: %s", uri, refusal)


class LakeLoadOperator(LoadOperator):
    """A source into a Delta table of the lake, one UTC day a window.

    Guarantee: the window's rows are replaced in one commit that carries the ledger and the cursor. Retrying, clearing,
    backfilling and two runs at once leave the rows of one run; an attempt that fails leaves the former rows.

    :param target: the table's path in the lake (``/data/raw/transactions``) or a URI. Templated.
    :param contract: path of the data contract. Templated.
    :param quarantine: path of the quarantine table; ``/data/quarantine/<dataset>`` when None. Templated.
    :param reload: load also when the window already holds exactly these files.
    :param hdfs_conn_id: the lake's connection.
    :return: the receipt as a mapping, with ``paths``, the URIs of the window's files.
    """

    template_fields: Sequence[str] = ("target", "contract", "quarantine")

    def __init__(
        self,
        *,
        target: str,
        contract: str,
        quarantine: str | None = None,
        reload: bool = False,
        hdfs_conn_id: str = "hdfs_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.target, self.contract, self.quarantine = target, contract, quarantine
        self.reload, self.hdfs_conn_id = reload, hdfs_conn_id

    def make_source(self, contract: Contract, load_id: str) -> Source:
        """The source to read; for subclasses."""
        raise NotImplementedError

    def execute(self, context: Context) -> dict[str, Any]:
        from tallyclerk.contracts import load_contract
        from tallyclerk.hooks.lake import LakeHook

        contract = load_contract(self.contract)
        load_id = uuid4().hex
        lake = LakeHook(self.hdfs_conn_id)
        receipt = self.load(lake, window_of(context), contract, self.make_source(contract, load_id), load_id)
        return self.publish(receipt, context, lake)

    def load(self, lake: LakeHook, window: Window, contract: Contract, source: Source, load_id: str) -> Receipt:
        """Source → spool → ledger → quarantine → one commit."""
        from tallyclerk.sinks.quarantine import Quarantine

        table = self.lake_table(lake, contract)
        started = time.monotonic()
        former = table.receipt(window)
        if (held := self.held(former, window, source)) is not None:
            return held
        with spool_directory() as directory:
            extract = source.extract(window, directory)
            extract.ledger.check(load=load_name(contract.dataset, window))
            receipt = Receipt(
                dataset=contract.dataset,
                window=window.key,
                ledger=extract.ledger,
                location=table.uri,
                load_id=load_id,
                contract_version=contract.version,
                fingerprint=extract.fingerprint,
                sources=extract.sources,
                cursor=extract.cursor,
                details={"seconds": round(time.monotonic() - started, 3), "engine": "local", **extract.details},
            )
            self.remember_unsigned(receipt)
            quarantine = Quarantine(self.quarantine_uri(lake, contract), dataset=contract.dataset)
            receipt = replace(receipt, quarantine=quarantine.replace_window(window, extract.rejects, receipt))
            return table.replace_window(window, extract.files, receipt, former=former.load_id if former else "")

    def lake_table(self, lake: LakeHook, contract: Contract) -> LakeTable:
        from tallyclerk.contracts.projections import arrow_schema
        from tallyclerk.sinks.lake_table import LakeTable

        return LakeTable(lake.uri(self.target), dataset=contract.dataset, schema=arrow_schema(contract))

    def quarantine_uri(self, lake: LakeHook, contract: Contract) -> str:
        return lake.uri(self.quarantine or f"/data/quarantine/{contract.dataset}")

    def held(self, former: Receipt | None, window: Window, source: Source) -> Receipt | None:
        """The receipt of the former load, where it wrote exactly what this one would write."""
        if self.reload or former is None or not former.fingerprint:
            return None
        return former.as_repeated() if former.fingerprint == source.fingerprint(window) else None


@contextmanager
def spool_directory() -> Iterator[Path]:
    """A folder for one load's spooled rows, gone afterwards; ``TMPDIR`` says where."""
    with tempfile.TemporaryDirectory(prefix="tallyclerk-") as directory:
        yield Path(directory)
