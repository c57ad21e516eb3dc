"""What loads have told Airflow: the receipts among the newest XComs, in one statement.

Each load's receipt stands in its sink's own commit; Airflow's database mirrors it. The page and the metrics read the mirror: 20 to 50 ms for
all loads, where the tables' own logs take 300 to 650 ms at first sight. A receipt's own page asks the sink as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tallyclerk.core.receipt import Receipt

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.orm import Session

RUNS_PER_DAG = 200
"""How many runs of a DAG are looked through: of those that returned anything."""
HISTORY = 50
"""How many answers of one task are looked through for a receipt of its."""
_PER_TASK = 10
_MARKS = {"dataset", "window", "ledger", "location"}


@dataclass(frozen=True, slots=True)
class Load:
    """A receipt, as a task instance has returned it.

    :param finished_at: when Airflow was told (UTC); the rows were committed shortly before, or, where the receipt is ``repeated``,
        by an earlier run.
    :param data_until: the end of the newest window that the task is known to have loaded; None where windows are no times.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int
    finished_at: datetime
    receipt: Receipt
    data_until: datetime | None

    @property
    def dataset(self) -> str:
        return self.receipt.dataset

    @property
    def window(self) -> str:
        return self.receipt.window

    @property
    def closes(self) -> bool:
        return self.receipt.ledger.closes


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a reconciliation has found of a day: ``status`` is ``agrees``, ``drift`` or ``not_streamed``; ``facts`` its counts."""

    dag_id: str
    task_id: str
    day: str
    finished_at: datetime
    status: str
    facts: dict[str, Any]


def newest_loads(session: Session, dag_ids: Collection[str] | None = None) -> list[Load]:
    """For each task and data set, the load that finished last; sorted by DAG, then in the order in which they finished.

    A load of which none of its DAG's last :data:`RUNS_PER_DAG` runs has told is left out.

    :param session: of Airflow's database (PostgreSQL or MySQL: the statement has a lateral join).
    :param dag_ids: the DAGs to look at; None is all.
    """
    newest: dict[tuple[str, str, str], Load] = {}
    for load in recent_loads(session, dag_ids):
        newest.setdefault((load.dag_id, load.task_id, load.dataset), load)
    return sorted(newest.values(), key=lambda load: (load.dag_id, load.finished_at))


def recent_loads(
    session: Session, dag_ids: Collection[str] | None = None, *, task_id: str | None = None, limit: int = _PER_TASK
) -> list[Load]:
    """The last ``limit`` answers of each task that hold receipts, who finished last first; a task may answer for several windows."""
    told = [
        (row, receipt)
        for row in session.execute(_answers(dag_ids, task_id, limit))
        for receipt in _receipts_in(row.value)
    ]
    until: dict[tuple[str, str, str], datetime] = {}
    for row, receipt in told:
        if (end := window_end(receipt.window)) is not None:
            key = (row.dag_id, row.task_id, receipt.dataset)
            until[key] = max(end, until.get(key, end))
    return [
        Load(
            row.dag_id, row.task_id, row.run_id, row.map_index, row.timestamp, receipt,
            until.get((row.dag_id, row.task_id, receipt.dataset)),
        )
        for row, receipt in told
    ]  # fmt: skip


def newest_comparisons(session: Session, dag_ids: Collection[str] | None = None) -> list[Comparison]:
    """Of each reconciling task the newest day that it has compared, as it was compared last."""
    newest: dict[tuple[str, str], Comparison] = {}
    for row in session.execute(_answers(dag_ids, None, _PER_TASK)):
        for day, facts in row.value.items() if isinstance(row.value, dict) else ():
            if not isinstance(facts, dict) or "status" not in facts or "customers" not in facts:
                continue
            found = Comparison(row.dag_id, row.task_id, day, row.timestamp, str(facts["status"]), facts)
            former = newest.get((row.dag_id, row.task_id))
            if former is None or (found.day, found.finished_at) > (former.day, former.finished_at):
                newest[(row.dag_id, row.task_id)] = found
    return sorted(newest.values(), key=lambda each: (each.dag_id, each.task_id))


def window_end(window: str) -> datetime | None:
    """When a window of times ends: of a day (``2026-01-31``) or an interval (``<start>/<end>``); None of a range of offsets."""
    try:
        if "/" in window:
            return datetime.fromisoformat(window.rpartition("/")[2]).astimezone(UTC)
        return datetime.combine(date.fromisoformat(window) + timedelta(days=1), datetime.min.time(), UTC)
    except ValueError:
        return None


def _answers(dag_ids: Collection[str] | None, task_id: str | None, limit: int) -> Select[Any]:
    """The newest return values of each task, newest first. Keys are looked through first, values fetched for few."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
    from sqlalchemy import func, select, true

    told = select(XComModel.dag_run_id).where(XComModel.dag_run_id == DagRun.id, XComModel.key == "return_value")
    runs = (
        select(DagRun.id)
        .where(DagRun.dag_id == DagModel.dag_id, told.exists())
        .order_by(DagRun.id.desc())
        .limit(RUNS_PER_DAG)
        .lateral()
    )
    dags = select(runs.c.id).select_from(DagModel).join(runs, true())
    if dag_ids is not None:
        dags = dags.where(DagModel.dag_id.in_(dag_ids))
    rank = func.row_number().over(
        partition_by=(XComModel.dag_id, XComModel.task_id), order_by=(XComModel.timestamp.desc(), XComModel.map_index)
    )
    keys = select(XComModel.dag_run_id, XComModel.task_id, XComModel.map_index, rank.label("rank")).where(
        XComModel.key == "return_value", XComModel.dag_run_id.in_(dags)
    )
    if task_id is not None:
        keys = keys.where(XComModel.task_id == task_id)
    ranked = keys.subquery()
    return (
        select(
            XComModel.dag_id,
            XComModel.task_id,
            XComModel.run_id,
            XComModel.map_index,
            XComModel.timestamp,
            XComModel.value,
        )
        .join(
            ranked,
            (XComModel.dag_run_id == ranked.c.dag_run_id)
            & (XComModel.task_id == ranked.c.task_id)
            & (XComModel.map_index == ranked.c.map_index),
        )
        .where(XComModel.key == "return_value", ranked.c.rank <= limit)
        .order_by(XComModel.timestamp.desc(), XComModel.task_id)
    )


def _receipts_in(value: Any) -> Iterator[Receipt]:
    """The receipts of a return value: itself, a list of them, or one for each day."""
    if isinstance(value, list):
        for each in value:
            yield from _receipts_in(each)
    elif isinstance(value, dict) and value.keys() >= _MARKS:
        yield Receipt.from_dict(value)
    elif isinstance(value, dict):
        for facts in value.values():
            if isinstance(facts, dict) and isinstance(facts.get("receipt"), dict):
                yield from _receipts_in(facts["receipt"])
