"""From here on the batch layer answers for a day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from tallyclerk.core.receipt import load_name
from tallyclerk.core.window import Window
from tallyclerk.exceptions import NotSignedError

if TYPE_CHECKING:
    from airflow.sdk import Context

    from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
    from tallyclerk.sinks.cassandra_loads import LoadsTable


class CloseDaysOperator(BaseOperator):
    """Let the view answer from the batch layer for days whose loads are signed.

    A day is closed by one write to ``<keyspace>.closed_days``, with the generation that its load was signed with. Closing again
    writes nothing; after a correction the day is closed anew, with the correction's higher generation. Every load is looked at
    before the first day is closed, and days are closed in order, so that a retry goes on where an attempt ended.

    Let it follow all checks of the day: what is closed is what users read.

    :param days: ISO dates, usually from :class:`~tallyclerk.operators.touched_days.TouchedDaysOperator`. Templated.
    :param contract: path of the contract whose table answers for the days. Templated.
    :param requires: further contracts whose newest loads of a day must be signed, too. Templated.
    :param keyspace: instead of the contracts'. Templated.
    :return: for each day its ``generation``, ``closed_at`` and whether it was ``repeated``: closed with this generation before.
    :raises NotSignedError: the newest load of a day is missing or open.
    :raises ServiceUnavailableError: Cassandra stayed away for longer than the hook waits.
    """

    template_fields: Sequence[str] = ("days", "contract", "requires", "keyspace")

    def __init__(
        self,
        *,
        days: Sequence[str],
        contract: str,
        requires: Sequence[str] = (),
        keyspace: str | None = None,
        cassandra_conn_id: str = "cassandra_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.days, self.contract, self.requires = days, contract, requires
        self.keyspace, self.cassandra_conn_id = keyspace, cassandra_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from tallyclerk.contracts import load_contract
        from tallyclerk.contracts.projections import cassandra_mapping
        from tallyclerk.hooks.cassandra_cluster import CassandraClusterHook
        from tallyclerk.sinks.closed_days import ClosedDays

        contract = load_contract(self.contract)
        windows = [Window.of_day(day) for day in sorted(set(self.days))]
        closed: dict[str, Any] = {}
        with CassandraClusterHook(self.cassandra_conn_id) as cassandra:
            own = self._loads(self.contract, cassandra)
            others = [self._loads(path, cassandra) for path in self.requires]
            generations = {window: signed_generation(own, window) for window in windows}
            for loads in others:
                for window in windows:
                    signed_generation(loads, window)
            table = ClosedDays(
                cassandra.session, keyspace=self.keyspace or cassandra_mapping(contract).keyspace,
                dataset=contract.dataset, backoff=cassandra.backoff, address=cassandra.address,
            )  # fmt: skip
            table.create()
            for window, generation in generations.items():
                day, is_new = table.close(window, generation)
                self.log.info(
                    "%s: generation %d %s", load_name(contract.dataset, window), day.generation,
                    "answers from now on" if is_new else f"has answered since {day.closed_at:%Y-%m-%d %H:%M:%S}",
                )  # fmt: skip
                closed[window.key] = {
                    "generation": day.generation,
                    "closed_at": day.closed_at.isoformat(),
                    "repeated": not is_new,
                }
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = {"closed": closed}
        return closed

    def _loads(self, path: str, cassandra: CassandraClusterHook) -> LoadsTable:
        from tallyclerk.contracts import load_contract
        from tallyclerk.contracts.projections import cassandra_mapping
        from tallyclerk.sinks.cassandra_loads import LoadsTable

        contract = load_contract(path)
        mapping = cassandra_mapping(contract)
        return LoadsTable(
            cassandra.session, keyspace=self.keyspace or mapping.keyspace, dataset=contract.dataset,
            target=mapping.table, backoff=cassandra.backoff, address=cassandra.address,
        )  # fmt: skip


def signed_generation(loads: LoadsTable, window: Window) -> int:
    """The generation of the window's newest load.

    :raises NotSignedError: there is none, or it was begun and not signed: rows of two generations may stand there.
    """
    history = loads.history(window)
    if not history:
        raise NotSignedError(load=loads.name(window), found="it was never begun")
    if history[0].receipt is None:
        raise NotSignedError(load=loads.name(window), found=f"generation {history[0].generation} is begun and open")
    return history[0].generation
