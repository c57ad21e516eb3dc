"""From a Delta table on HDFS to Cassandra."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tallyclerk.core.window import Window
from tallyclerk.exceptions import SpecError
from tallyclerk.transfers.base import LoadOperator, window_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.contracts import Contract
    from tallyclerk.core.receipt import Receipt
    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook


class LakeToCassandraOperator(LoadOperator):
    """Make a Cassandra table hold what the lake holds for one or several days.

    Each window is loaded from one pinned version of the lake's table (the same for all windows of a run) and signed in
    ``<keyspace>.tallyclerk_loads`` after every row was acknowledged and read back. A rerun writes nothing where the
    window's files are unchanged; after a correction it rewrites the window and removes what the correction dropped. Retrying,
    clearing, and two runs at once give the rows of one run. Windows are independent: when one fails, those before it are
    done and signed, and the retry skips them.

    :param source: the lake's table, a path (``/data/enriched/customer_kpis``) or a full URI. Templated.
    :param contract: path of the contract with the ``cassandra`` mapping. Templated.
    :param windows: ISO dates to load instead of the run's own window, for instance the days that late rows touched, from
        an upstream task; an empty list loads nothing. Templated.
    :param hdfs_conn_id, cassandra_conn_id: connections.
    :param keyspace: instead of the contract's. Templated.
    :param create: make keyspace and tables where they are missing.
    :param replication: of a keyspace that is made; the default suits one node.
    :param version: of the lake's table; None is the newest when the task starts. Going back needs ``reload``.
    :param batch_grouping, retraction, reload, allow_empty, verify_limit_rows, in_flight: see
        :class:`~tallyclerk.sinks.cassandra_upsert.UpsertOptions`.
    :param unavailable_limit_seconds: how long the task itself waits for a node that is away, before Airflow's retry.
    :return: the receipts, one mapping per window.
    """

    template_fields: Sequence[str] = ("source", "contract", "windows", "keyspace")

    def __init__(
        self, *, source: str, contract: str, windows: Sequence[str] | str | None = None,
        hdfs_conn_id: str = "hdfs_default", cassandra_conn_id: str = "cassandra_default", keyspace: str | None = None,
        create: bool = True, replication: Mapping[str, Any] | None = None, version: int | None = None,
        batch_grouping: str = "replica_set", retraction: str = "time_travel", reload: bool = False,
        allow_empty: bool = False, verify_limit_rows: int = 200_000, in_flight: int = 32,
        unavailable_limit_seconds: float = 120.0, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.source, self.contract, self.windows, self.keyspace = source, contract, windows, keyspace
        self.hdfs_conn_id, self.cassandra_conn_id = hdfs_conn_id, cassandra_conn_id
        self.create, self.replication, self.version = create, replication, version
        self.batch_grouping, self.retraction, self.reload = batch_grouping, retraction, reload
        self.allow_empty, self.verify_limit_rows, self.in_flight = allow_empty, verify_limit_rows, in_flight
        self.unavailable_limit_seconds = unavailable_limit_seconds

    @cached_property
    def cassandra(self) -> CassandraClusterHook:
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.sinks.cassandra_client import Backoff

        return CassandraClusterHook(
            self.cassandra_conn_id, backoff=Backoff(limit_seconds=self.unavailable_limit_seconds)
        )

    def execute(self, context: Context) -> list[Any]:
        windows = self.resolve_windows(context)
        if not windows:
            self.log.info("No window to load.")
            return []
        with self.cassandra:
            receipts: list[Any] = [self.publish(receipt, context, self.cassandra) for receipt in self._load(windows)]
        if len(receipts) > 1:  # publish keeps one receipt in an asset event
            for outlet in self.outlets:
                context["outlet_events"][outlet].extra = {"receipts": receipts}
        return receipts

    def read_columns(self, contract: Contract) -> dict[str, str]:
        return {column.name: column.type for column in contract.columns}

    def stored_columns(self, contract: Contract) -> dict[str, str]:
        from tallyclerk.contracts.projections import cql_types

        return cql_types(contract)

    def on_kill(self) -> None:
        """Close the session: no row is written after the task was killed. What was written is not signed."""
        self.cassandra.close()

    def resolve_windows(self, context: Context) -> list[Window]:
        """``windows`` when given, in order and once each, else the run's own window."""
        if self.windows is None:
            return [window_of(context)]
        days = self.windows.replace(",", " ").split() if isinstance(self.windows, str) else list(self.windows)
        if not all(isinstance(day, str) for day in days):
            raise SpecError(f"windows={self.windows!r} is not a list of dates such as 2017-01-31.")
        return sorted({Window.of_day(day) for day in days})

    def _load(self, windows: Sequence[Window]) -> Iterator[Receipt]:
        from tallyclerk.contracts import load_contract
        from tallyclerk.hooks.lake import LakeHook
        from tallyclerk.sinks.cassandra_lake import LakeWindow
        from tallyclerk.sinks.cassandra_table import DEFAULT_REPLICATION, TargetTable
        from tallyclerk.sinks.cassandra_upsert import CassandraUpsert, UpsertOptions

        contract = load_contract(self.contract)
        options = UpsertOptions(
            batch_grouping=self.batch_grouping,  # type: ignore[arg-type]
            retraction=self.retraction,  # type: ignore[arg-type]
            in_flight=self.in_flight, verify_limit_rows=self.verify_limit_rows, reload=self.reload,
            allow_empty=self.allow_empty, backoff=self.cassandra.backoff,
        )  # fmt: skip
        sink = CassandraUpsert(
            self.cassandra.session, TargetTable.from_contract(contract, keyspace=self.keyspace),
            dataset=contract.dataset, contract_version=contract.version, options=options, address=self.cassandra.address,
        )  # fmt: skip
        if self.create:
            sink.create(self.replication or DEFAULT_REPLICATION)
        sink.check_schema()
        uri, version = LakeHook(self.hdfs_conn_id).uri(self.source), self.version
        for window in windows:
            lake = LakeWindow(uri, window.day, version=version)
            version = lake.version
            yield sink.load(lake, window)
