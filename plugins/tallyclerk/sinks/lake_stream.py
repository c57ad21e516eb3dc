"""A Delta table that grows by ranges of a topic, one commit for rows, ledger and offsets (promises P1 to P3).

Every commit carries its range and the position after it. The position is read from a snapshot of the table, the commit is
written through that same snapshot, and all commits of one topic bear the same app transaction: a commit that somebody else
made in between is a conflict, after which the loser looks at the position again. So no range is written twice, whoever dies
or runs beside. A load is named by its range.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tallyclerk.core.extract import SpooledFile
from tallyclerk.core.offsets import OFFSETS_KEY, Offsets
from tallyclerk.core.receipt import Receipt
from tallyclerk.exceptions import ConcurrentLoadError, SpecError
from tallyclerk.sinks.lake_table import LakeTable, receipts_of

if TYPE_CHECKING:
    import pyarrow as pa
    from deltalake import DeltaTable
    from deltalake.transaction import RemoveAction

log = logging.getLogger(__name__)

POSITION_KEY = "position"
"""In ``Receipt.cursor``: partition (as text) → the offset at which the stream goes on; a re-load leaves it as it is."""

REPLACED_KEY = "replaced"
"""In ``Receipt.details``: the load ids of earlier loads whose rows this one's replace."""


def range_name(offsets: Offsets) -> str:
    """The name of a load of a range, where others have their window's: ``sales/0:10-20,1:7-9``."""
    return f"{offsets.topic}/" + ",".join(f"{partition}:{start}-{end}" for partition, start, end in offsets)


@dataclass(frozen=True, slots=True)
class StreamHead:
    """One snapshot of the table, to plan and to commit through.

    :param newest: the receipt of the topic's newest commit, None when there was none.
    """

    table: DeltaTable
    newest: Receipt | None

    @property
    def position(self) -> dict[int, int]:
        """Partition → the offset to go on from."""
        cursor = self.newest.cursor if self.newest else {}
        return {int(partition): int(offset) for partition, offset in cursor.get(POSITION_KEY, {}).items()}


class LakeStream(LakeTable):
    """One topic's rows in a table.

    :param topic: whose offsets its commits carry. Several topics may share a table.
    :param uri, dataset, schema: as :class:`~tallyclerk.sinks.lake_table.LakeTable`.
    """

    def __init__(self, uri: str, *, dataset: str, schema: pa.Schema, topic: str) -> None:
        super().__init__(uri, dataset=dataset, schema=schema)
        self.topic = topic
        self._app = f"{dataset}@{topic}"

    def head(self) -> StreamHead:
        """The table as it is now; it is created when there is none.

        :raises SchemaMismatchError: the table has other columns.
        """
        table = self._open_or_create()
        return StreamHead(table, self._newest(table, self._app, self._is_ours))

    def is_begun(self) -> bool:
        """Whether the table holds a load of the topic."""
        table = self.open()
        return table is not None and table.transaction_version(self._app) is not None

    def loads(self) -> list[Receipt]:
        """The receipts of the topic's loads whose rows the table holds, oldest first."""
        held: dict[str, Receipt] = {}
        for receipt in reversed(receipts_of(self.uri)):
            if receipt.dataset == self.dataset and self._is_ours(receipt):
                for load_id in receipt.details.get(REPLACED_KEY, ()):
                    held.pop(load_id, None)
                held[receipt.load_id] = receipt
        return list(held.values())

    def covered(self, offsets: Offsets) -> list[Receipt]:
        """The loads that a range takes in and that a load of it replaces.

        :raises SpecError: a load lies only partly in the range, so that its rows cannot be told apart.
        """
        touched = [load for load in self.loads() if any(_overlaps(load, offsets))]
        if torn := [load.window for load in touched if not all(_contained(load, offsets))]:
            raise SpecError(
                f"{range_name(offsets)} cuts through what was loaded as {'; '.join(torn)}. Rows are replaced by whole loads: "
                "take these ranges in, or leave them out."
            )
        return touched

    def append(
        self, head: StreamHead, files: Sequence[SpooledFile], receipt: Receipt, *, replaced: Sequence[Receipt] = ()
    ) -> Receipt:
        """Add the files' rows, in one commit that carries ``receipt``. Exactly once.

        :param head: the snapshot from which the range was planned.
        :param files: each names its day.
        :param receipt: with the range in its cursor; the position after it is set here.
        :param replaced: earlier loads whose files go in the same commit, see :meth:`covered`.
        :raises ConcurrentLoadError: another attempt was faster; nothing was committed. Plan again from a new head.
        :raises SpecError: a replaced load's files are not there any more, as they were compacted.
        """
        removes = list(self._removes(head.table, [path for load in replaced for path in load.paths]))
        return self.exchange(head, files, replace(receipt, details={
            **receipt.details, **({REPLACED_KEY: [load.load_id for load in replaced]} if replaced else {}),
        }), removes)  # fmt: skip

    def exchange(
        self, head: StreamHead, files: Sequence[SpooledFile], receipt: Receipt, removes: Sequence[RemoveAction] = ()
    ) -> Receipt:
        """As :meth:`append`, with the files to remove told singly."""
        offsets = Offsets.from_dict(receipt.cursor[OFFSETS_KEY])
        # a range behind the position leaves it as it is
        position = {**head.position}
        for partition, end in offsets.ends().items():
            position[partition] = max(position.get(partition, end), end)
        staged = self._stage(files, receipt)
        positions = {str(key): position[key] for key in sorted(position)}
        signed = replace(self._sign(receipt, staged), cursor={**receipt.cursor, POSITION_KEY: positions})
        conflict = self._commit(head.table, staged, signed, app=self._app, replaces=None, removes=removes)
        if conflict is not None:
            self._unstage(staged)
            raise ConcurrentLoadError(load=signed.load, cause=conflict)
        table = self.open()
        assert table is not None
        version = table.version()
        committed = self._own(table, self._app, receipt)
        return committed or replace(signed, version=version)

    def remove_actions(self, head: StreamHead, relative: Sequence[str]) -> list[RemoveAction]:
        """Removal of files of the table by their paths below it."""
        return list(self._removes(head.table, [f"{self.uri}/{path}" for path in relative]))

    def _removes(self, table: DeltaTable, paths: Sequence[str]) -> Iterator[RemoveAction]:
        import pyarrow as pa
        from deltalake.transaction import RemoveAction

        if not paths:
            return
        actions: dict[str, Mapping[str, Any]] = {
            action["path"]: action for action in pa.table(table.get_add_actions(flatten=False)).to_pylist()
        }
        for path in paths:
            relative = path.removeprefix(f"{self.uri}/")
            if relative not in actions:
                raise SpecError(
                    f"{path} is no file of the table any more, as the table was compacted; what it was loaded from cannot be "
                    "replaced by itself. Load into a new table."
                )
            action = actions[relative]
            values: dict[str, str | None] = {name: str(value) for name, value in action["partition"].items()}
            yield RemoveAction(relative, True, time.time_ns() // 1_000_000, action["size_bytes"], values)

    def _is_ours(self, receipt: Receipt) -> bool:
        return self.topic in receipt.cursor.get(OFFSETS_KEY, {}) and POSITION_KEY in receipt.cursor


def _overlaps(load: Receipt, offsets: Offsets) -> Iterator[bool]:
    return _compared(load, offsets, lambda own, other: own[0] < other[1] and other[0] < own[1])


def _contained(load: Receipt, offsets: Offsets) -> Iterator[bool]:
    return _compared(load, offsets, lambda own, other: other[0] <= own[0] and own[1] <= other[1])


def _compared(
    load: Receipt, offsets: Offsets, holds: Callable[[tuple[int, int], tuple[int, int]], bool]
) -> Iterator[bool]:
    """For each partition in which the load has a range, whether it stands so to the other one."""
    for partition, start, end in Offsets.from_dict(load.cursor[OFFSETS_KEY]):
        yield holds((start, end), offsets.ranges.get(partition, (0, 0)))
