"""The messages of PostgreSQL's pgoutput plugin, decoded in columns.

One message a row is what the server gives; here no message is looked at on its own. All messages of a batch lie in one buffer,
their types are read at once, and a tuple's columns are walked through for all tuples together: as many steps as the table has
columns. Values come out as PostgreSQL's texts, taken from that buffer by Arrow. Only Relation messages, of which
there is one per session and one per change of the table, are parsed one by one.

Source: PostgreSQL 17, 53.5 "Logical Streaming Replication Protocol" and 53.9 "Logical Replication Message Formats", protocol version 1,
without streaming of open transactions: every transaction comes whole, in the order of the commits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tallyclerk.exceptions import TerminalError
from tallyclerk.sources.pgoutput_wire import UNCHANGED, LoggedTable, Tuples, Wire

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    Bytes = npt.NDArray[np.uint8]
    Numbers = npt.NDArray[np.int64]
    Flags = npt.NDArray[np.bool_]

BEGIN, COMMIT, RELATION, INSERT, UPDATE, DELETE, TRUNCATE, TYPE, ORIGIN = b"BCRIUDTYO"
_CHANGES = (INSERT, UPDATE, DELETE)
_NEW, _FULL = b"NO"
_FIRST_TUPLE = 5  # after the message's type and the table's id: a tuple's kind, then the tuple
_POSTGRES_EPOCH_MICROSECONDS = 946_684_800_000_000


@dataclass(frozen=True, slots=True)
class LoggedChanges:
    """Changes of one version of one table, in the order of the log.

    An update that changes the key is two: the deletion of the old row and the creation of the new one.

    :param ops: ``c``, ``u`` or ``d`` as a number of ASCII.
    :param commit_lsn: where each change's transaction committed.
    :param committed_us: when, microseconds since 1970.
    :param texts: each column of the table as PostgreSQL's texts.
    :param untold: columns with values that were neither changed nor logged, with their number: TOAST values without
        ``REPLICA IDENTITY FULL``. They are null in ``texts`` although the row has a value.
    """

    table: LoggedTable
    ops: Bytes
    commit_lsn: Numbers
    committed_us: Numbers
    texts: tuple[pa.StringArray, ...]
    untold: tuple[tuple[str, int], ...]

    @property
    def rows(self) -> int:
        return len(self.ops)


@dataclass(slots=True)
class LogReader:
    """Reads the messages of consecutive batches; a transaction may go over several.

    :param key: columns whose change makes another row of an updated one.
    :param end_lsn: end of the last commit that was read: everything before it is known.
    :param transactions: commits that were read.
    :param truncated: when a table was truncated, the positions of these commits.
    """

    key: Sequence[str]
    end_lsn: int = 0
    transactions: int = 0
    truncated: list[int] = field(default_factory=list)
    _tables: dict[int, LoggedTable] = field(default_factory=dict)
    _begun: tuple[int, int] = (0, 0)
    _open: int = 0

    def read(self, messages: pa.BinaryArray) -> Iterator[LoggedChanges]:
        """The changes of a batch, each stretch of one table's version as one.

        :raises TerminalError: a message that protocol version 1 does not have.
        """
        import numpy as np

        if not len(messages):
            return
        wire = Wire.of(messages)
        types = wire.types
        self._check(types)
        begins, changes = np.flatnonzero(types == BEGIN), np.flatnonzero(np.isin(types, _CHANGES))
        lsn, clock = self._transaction_of(wire, begins, changes)
        self._note_commits(wire, np.flatnonzero(types == COMMIT), len(begins))
        truncates = np.flatnonzero(types == TRUNCATE)
        self.truncated += self._transaction_of(wire, begins, truncates)[0].tolist()
        versions, at = self._versions(wire, np.flatnonzero(types == RELATION), changes)
        if len(begins):
            self._begun = int(wire.int64(begins[-1:], 1)[0]), int(wire.int64(begins[-1:], 9)[0])
        for start, end in _stretches(at):
            stretch = slice(start, end)
            yield _decode(wire, versions[at[start]], changes[stretch], lsn[stretch], clock[stretch], self.key)

    def check_complete(self) -> None:
        """:raises TerminalError: the last transaction that was read has no end."""
        if self._open:
            raise TerminalError("The slot's answer ends within a transaction; nothing of it was sent. Report this.")

    def _check(self, types: Bytes) -> None:
        import numpy as np

        known = (BEGIN, COMMIT, RELATION, *_CHANGES, TRUNCATE, TYPE, ORIGIN)
        unknown = np.setdiff1d(types, known)
        if len(unknown):
            raise TerminalError(
                f"The log holds messages of type {bytes(unknown).decode('latin-1')!r}, which protocol version 1 does not "
                "have. Is the slot read with options of someone else's?"
            )

    def _transaction_of(self, wire: Wire, begins: Numbers, messages: Numbers) -> tuple[Numbers, Numbers]:
        """The commit's position and time of each message; the first may belong to a transaction of the former batch."""
        import numpy as np

        number = np.searchsorted(begins, messages)
        lsn = np.append(self._begun[0], wire.int64(begins, 1))[number]
        clock = np.append(self._begun[1], wire.int64(begins, 9))[number]
        return lsn, clock + _POSTGRES_EPOCH_MICROSECONDS

    def _note_commits(self, wire: Wire, commits: Numbers, begins: int) -> None:
        self._open += begins - len(commits)
        if self._open not in (0, 1):
            raise TerminalError("The log's transactions do not begin and end in turn. Report this.")
        self.transactions += len(commits)
        if len(commits):
            self.end_lsn = int(wire.int64(commits[-1:], 10)[0])

    def _versions(self, wire: Wire, relations: Numbers, changes: Numbers) -> tuple[list[LoggedTable], Numbers]:
        """The versions of tables that are met, and for each change the number of its own among them."""
        import numpy as np

        versions: list[LoggedTable] = []
        at = np.empty(len(changes), np.int64)
        table_of = wire.int32(changes, 1)
        numbers: dict[LoggedTable, int] = {}
        borders = [0, *np.searchsorted(changes, relations), len(changes)]
        for number, (start, end) in enumerate(pairwise(borders)):
            if number:
                table = wire.table(int(relations[number - 1]))
                self._tables[table.oid] = table
            for oid in np.unique(table_of[start:end]):
                version = self._tables[int(oid)]
                if version not in numbers:
                    numbers[version] = len(versions)
                    versions.append(version)
                at[start:end][table_of[start:end] == oid] = numbers[version]
        return versions, at


def _decode(
    wire: Wire, table: LoggedTable, messages: Numbers, lsn: Numbers, clock: Numbers, key: Sequence[str]
) -> LoggedChanges:
    import numpy as np

    positions = wire.starts[messages] + _FIRST_TUPLE
    types, leads = wire.types[messages], wire.data[positions]
    before = after = Tuples.read(wire, positions + 1, len(table.columns))
    moved = np.zeros(len(messages), bool)
    updated = np.flatnonzero((leads != _NEW) & (types == UPDATE))  # only these have a second tuple
    if len(updated):
        second = Tuples.read(wire, before.ends[updated] + 1, len(table.columns))
        after = before.with_updates(updated, second, leads[updated] == _FULL)
        for place in [place for name in key if (place := table.position(name)) is not None]:
            moved[updated] |= _differ(before.texts(wire, place, updated), after.texts(wire, place, updated))
    row = np.repeat(np.arange(len(messages)), 1 + moved)
    # of the two events of a moved row the first is the deletion
    leaves = np.append(row[1:] == row[:-1], False) if moved.any() else np.zeros(len(row), bool)
    ops = np.frombuffer(b"dcu", np.uint8)[np.searchsorted((DELETE, INSERT, UPDATE), types)][row]
    ops[moved[row]] = ord("c")
    ops[leaves] = ord("d")
    shown = before.alternating(after, row, leaves) if moved.any() else after
    texts = tuple(shown.texts(wire, place) for place in range(len(table.columns)))
    unknown = np.count_nonzero(shown.kinds == UNCHANGED, axis=1).tolist()
    untold = tuple((column.name, count) for column, count in zip(table.columns, unknown, strict=True) if count)
    return LoggedChanges(table, ops, lsn[row], clock[row], texts, untold)


def _differ(before: pa.StringArray, now: pa.StringArray) -> Flags:
    """Where two texts differ. The old key is told when the server found it changed, or when the whole row is."""
    import pyarrow.compute as pc

    return pc.not_equal(before, now).fill_null(False).to_numpy(zero_copy_only=False)


def _stretches(at: Numbers) -> Iterator[tuple[int, int]]:
    """Half-open ranges in which the number stays the same."""
    import numpy as np

    if not len(at):
        return
    borders = [0, *(np.flatnonzero(np.diff(at)) + 1), len(at)]
    for start, end in pairwise(borders):
        yield int(start), int(end)
