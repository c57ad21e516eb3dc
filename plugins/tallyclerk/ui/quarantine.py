"""What is in quarantine, newest first. What is shown is read; how many there are is told by the tables' logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from tallyclerk.hooks.lake import lake_root
from tallyclerk.sinks.lake_log import LakeLog
from tallyclerk.sinks.lake_table import PARTITION_COLUMNS
from tallyclerk.sinks.lake_zones import tables
from tallyclerk.ui.services import log_of

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyarrow.dataset import Dataset, Expression

SHOWN = 50
"""How many findings of a table are shown."""
_FINDINGS_LOOKED_AT, _FILES_LOOKED_AT = 100_000, 64
"""Beyond the newest ones findings are counted, but not by their reasons: a person waits."""
_DAYS_OFFERED = 60
_COLUMNS = ("window", "dataset", "source", "record_number", "column", "reason", "detail", "raw_text", "load_id")
_counted: dict[str, tuple[tuple[int, int], Reasons | None]] = {}
"""By table: which version was counted, and what was found."""


@dataclass(frozen=True, slots=True)
class Reasons:
    """A quarantine table as a whole: one finding is one broken promise of a record.

    :param total: its findings. :param looked_at: the newest of them, whose reasons are counted.
    :param newest: the day of the newest one. :param counts: column ("" of the whole record), reason, findings; most first.
    """

    name: str
    total: int
    looked_at: int
    newest: date
    counts: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """Some of a table's findings.

    :param rows: the newest that were asked for, at most :data:`SHOWN`; ``on`` is the day that they belong to.
    :param matching: how many were asked for, of the newest ``looked_at`` of ``total`` findings (of the day, where one was given).
    :param days, reasons: of which the table has any: the newest days, the most frequent reasons first.
    """

    rows: Sequence[dict[str, Any]]
    matching: int
    looked_at: int
    total: int
    days: Sequence[str]
    reasons: Sequence[str]


_NOTHING = Findings((), 0, 0, 0, (), ())


@dataclass(frozen=True, slots=True)
class _File:
    """A data file of a table, as its log has it."""

    path: str
    day: date
    written_at: datetime
    findings: int


def all_reasons() -> list[Reasons]:
    """Of each quarantine table that holds anything.

    :raises ServiceUnavailableError: the lake is away.
    """
    return [found for log in _logs() if (found := _reasons_of(log)) is not None]


def findings(name: str, *, window: str = "", reason: str = "") -> Findings:
    """The newest findings of a table.

    :param window: a day, or a range of offsets; all when "". :param reason: all when "".
    :raises ServiceUnavailableError: the lake is away.
    """
    log = next((log for log in _logs() if log.uri.rpartition("/")[2] == name), None)
    if log is None or (summary := _reasons_of(log)) is None:
        return _NOTHING
    return log.look(lambda: _found(log.uri, summary, window, reason)) or _NOTHING


def _found(uri: str, summary: Reasons, window: str, reason: str) -> Findings:
    table, files = _opened(uri)
    days = list(dict.fromkeys(file.day.isoformat() for file in files))
    asked = [file for file in files if file.day.isoformat() == window] if window in days else files
    looked_at = _newest(asked)
    by_column = {"reason": reason, "window": window if window not in days else ""}
    condition = _condition({name: value for name, value in by_column.items() if value})
    data = _dataset(table, looked_at)
    rows = data.head(SHOWN, columns=[*_COLUMNS, *PARTITION_COLUMNS], filter=condition).to_pylist()
    count = sum(file.findings for file in looked_at)
    matching = count if condition is None else data.count_rows(filter=condition)
    rows = [{**row, "on": date(*(row[name] for name in PARTITION_COLUMNS))} for row in rows]
    total = sum(file.findings for file in asked)
    offered = tuple(dict.fromkeys(reason for _, reason, _ in summary.counts))
    return Findings(rows, matching, count, total, days[:_DAYS_OFFERED], offered)


def _logs() -> list[LakeLog]:
    return [log_of(uri) for uri in tables(lake_root(), ("quarantine",))]


def _reasons_of(log: LakeLog) -> Reasons | None:
    """Counted once for each version of a table."""
    if (end := log.end()) is None:
        return None
    version = (end.version, end.written_at)
    held = _counted.get(log.uri)
    if held is None or held[0] != version:
        held = _counted[log.uri] = (version, log.look(lambda: _count(log.uri)))
    return held[1]


def _count(uri: str) -> Reasons | None:
    table, files = _opened(uri)
    if not (looked_at := _newest(files)):
        return None
    read = _dataset(table, looked_at).to_table(columns=["column", "reason"])
    counts: Counter[tuple[str, str]] = Counter()
    for row in read.group_by(["column", "reason"]).aggregate([([], "count_all")]).to_pylist():
        counts[row["column"] or "", row["reason"]] += row["count_all"]
    total, count = (sum(file.findings for file in some) for some in (files, looked_at))
    most_first = tuple((*key, found) for key, found in counts.most_common())
    return Reasons(uri.rpartition("/")[2], total, count, looked_at[0].day, most_first)


def _opened(uri: str) -> tuple[DeltaTable, list[_File]]:
    """The table and its files that hold findings, the newest day's newest first."""
    import pyarrow as pa
    from deltalake import DeltaTable

    table = DeltaTable(uri)
    files = []
    for action in pa.table(table.get_add_actions(flatten=False)).to_pylist():
        day = action["partition"]
        if action["num_records"]:
            on = date(*(day[name] for name in PARTITION_COLUMNS))
            files.append(_File(action["path"], on, action["modification_time"], action["num_records"]))
    return table, sorted(files, key=lambda file: (file.day, file.written_at), reverse=True)


def _newest(files: Sequence[_File]) -> list[_File]:
    """As many as a person waits for: at least one."""
    chosen: list[_File] = []
    for file in files[:_FILES_LOOKED_AT]:
        if chosen and sum(each.findings for each in chosen) + file.findings > _FINDINGS_LOOKED_AT:
            break
        chosen.append(file)
    return chosen


def _dataset(table: DeltaTable, files: Sequence[_File]) -> Dataset:
    """Just these files, in their order."""
    from pyarrow.dataset import FileSystemDataset

    whole = table.to_pyarrow_dataset()
    by_path = {fragment.path.lstrip("/"): fragment for fragment in whole.get_fragments()}
    return FileSystemDataset([by_path[file.path] for file in files], whole.schema, whole.format, whole.filesystem)


def _condition(values: dict[str, str]) -> Expression | None:
    import pyarrow.compute as pc

    found = None
    for name, value in values.items():
        own = pc.field(name) == value
        found = own if found is None else found & own
    return found
